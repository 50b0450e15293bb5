using System.Text.RegularExpressions;

namespace UnslothMerge.Models;

/// <summary>How older names became newer ones.</summary>
/// <param name="Older">What is replaced.</param>
/// <param name="Newer">By what.</param>
public sealed record NameRule(Regex Older, string Newer);

/// <summary>A beginning of names that may stand for another.</summary>
/// <param name="From">What a name begins with.</param>
/// <param name="To">What it may begin with instead.</param>
public sealed record Wrapping(string From, string To);

/// <summary>
/// The renames between checkpoints and running models, as data. A model class that was reorganised keeps its old names in checkpoints and in
/// the adapters of its time; each rule turns an older spelling into the newest one and leaves the newest alone. Names are compared after all
/// rules, so every mix of old and new meets. Source of every row, unless it says otherwise: transformers 5, <c>conversion_mapping.py</c>.
/// </summary>
internal static class NameRules
{
    // Types whose base class keeps a language model, a vision tower and a projector under 'model.' since transformers 4.52.
    private static readonly string[] Llava =
    [
        "llava", "llava_next", "llava_next_video", "llava_onevision", "video_llava", "vipllava", "paligemma", "aya_vision", "got_ocr2", "gemma3", "internvl", "mistral3",
        "pp_chart2table", "fuyu", "mllama", "aria", "shieldgemma2", "colpali",
    ];

    private static readonly string[] Vit = ["vit", "deit", "vit_mae", "vit_msn", "ijepa", "vivit", "yolos"];

    private static readonly string[] DetrFamily = ["detr", "maskformer", "rt_detr", "rt_detr_v2", "pp_doclayout_v2", "pp_doclayout_v3", "conditional_detr", "deformable_detr"];

    private static readonly string[] BlockSparse = ["mixtral", "minimax", "minimax_m2", "phimoe"];

    /// <summary>One row per rule, in the order in which they are applied. Without model types a rule holds for all models.</summary>
    private static readonly (string[]? ModelTypes, string Older, string Newer)[] Table =
    [
        // shieldgemma2 wraps a whole gemma3; colpali and colqwen2 call theirs 'vlm'.
        (["shieldgemma2"], @"^model\.(?=(model|lm_head|language_model|vision_tower|multi_modal_projector)\.)", ""),
        (["colqwen2"], @"^vlm\.model\.", "vlm."),
        (["colqwen2"], @"^vlm\.(?!(language_model|visual|lm_head)\.)", "vlm.language_model."),

        // llava and its family.
        (Llava, @"^(?<w>vlm\.)?(model\.)?language_model\.lm_head\.", "${w}lm_head."),
        (Llava, @"^(?<w>vlm\.)?(?<m>language_model|vision_tower|image_tower|video_tower|vision_model|multi_modal_projector|vision_embed_tokens|image_newline)(?=\.|$)", "${w}model.${m}"),
        (Llava, @"^(?<w>vlm\.)?model\.language_model\.model\.", "${w}model.language_model."),
        (["emu3"], @"^(model\.)?text_model\.lm_head\.", "lm_head."),
        (["emu3"], @"^(?<m>text_model|vqmodel)\.", "model.${m}."),
        (["emu3"], @"^model\.text_model\.model\.", "model.text_model."),

        // CLIP and SigLIP towers lost a level inside a larger model in transformers 5.2x.
        (null, @"(^|(?<=\.))(?<t>vision_tower|image_tower|video_tower)\.vision_model\.", "${t}."),

        // Qwen2-VL, Qwen2.5-VL, PaddleOCR-VL: the language model moved below 'model.language_model' in 4.52.
        (["paddleocr_vl"], @"^mlp_AR\.", "model.projector."),
        (["qwen2_vl", "qwen2_5_vl", "paddleocr_vl"], @"^visual\.", "model.visual."),
        (["qwen2_vl", "qwen2_5_vl", "paddleocr_vl"], @"^model\.(?!(language_model|visual|projector)\.)", "model.language_model."),

        // qianfan_ocr: InternVL's own names on the hub.
        (["qianfan_ocr"], @"^vision_model\.", "model.vision_tower."),
        (["qianfan_ocr"], @"^(?<v>model\.vision_tower\.)encoder\.layers\.", "${v}layers."),
        (["qianfan_ocr"], @"^(?<l>model\.vision_tower\.layers\.\d+\.)attn\.proj\.", "${l}attention.projection_layer."),
        (["qianfan_ocr"], @"^language_model\.model\.", "model.language_model."),
        (["qianfan_ocr"], @"^language_model\.lm_head\.", "lm_head."),
        (["qianfan_ocr"], @"^mlp1\.0\.", "model.multi_modal_projector.layer_norm."),
        (["qianfan_ocr"], @"^mlp1\.1\.", "model.multi_modal_projector.linear_1."),
        (["qianfan_ocr"], @"^mlp1\.3\.", "model.multi_modal_projector.linear_2."),

        // Mixtures of experts: the block and its router.
        (BlockSparse, @"\.block_sparse_moe\.", ".mlp."),
        (["phimoe"], @"\.mlp\.gate\.", ".mlp.router."),
        (["ernie4_5_moe"], @"\.mlp\.moe_statics\.", ".mlp.gate.moe_statics."),
        (["exaone_moe"], @"\.mlp\.e_score_correction_bias$", ".mlp.gate.e_score_correction_bias"),
        (["hy_v3"], @"\.mlp\.router\.gate\.", ".mlp.gate."),
        (["hy_v3"], @"\.mlp\.expert_bias$", ".mlp.e_score_correction_bias"),
        (["hy_v3"], @"\.mlp\.shared_mlp\.", ".mlp.shared_experts."),
        (["laguna"], @"\.mlp\.experts\.e_score_correction_bias$", ".mlp.gate.e_score_correction_bias"),
        (["laguna"], @"\.mlp\.shared_expert\.", ".mlp.shared_experts."),

        // Language models.
        (["gpt_neox"], @"^embed_out\.", "lm_head."),
        (["nemotron_h"], @"^backbone\.", "model."),
        (["nemotron_h"], @"(?<=^|\.)embedding\.(?=weight$|$)", "embeddings."),
        (["olmo_hybrid"], @"\.attention_layer_norm\.", ".input_layernorm."),
        (["olmo_hybrid"], @"\.feedforward_layer_norm\.", ".post_attention_layernorm."),
        (["nomic_bert", "jina_embeddings_v3"], @"(?<=^|\.)encoder\.layers\.", "layers."),
        (["nomic_bert", "jina_embeddings_v3"], @"(?<=^|\.)emb_ln\.", "embeddings.LayerNorm."),
        (["nomic_bert"], @"\.attn\.out_proj\.", ".self_attn.o_proj."),
        (["jina_embeddings_v3"], @"\.mixer\.out_proj\.", ".self_attn.o_proj."),
        (["nomic_bert"], @"\.fc11\.", ".up_proj."),
        (["nomic_bert"], @"\.fc12\.", ".gate_proj."),
        (["nomic_bert"], @"\.fc2\.", ".down_proj."),
        (["nomic_bert", "jina_embeddings_v3"], @"\.norm1\.", ".post_attention_layernorm."),
        (["nomic_bert", "jina_embeddings_v3"], @"\.norm2\.", ".post_mlp_layernorm."),

        // Vision models; ViT's names since transformers 5.18.
        (Vit, @"(?<=^|\.)encoder\.layer\.(?=\d)", "layers."),
        (Vit, @"\.attention\.attention\.query\.", ".attention.q_proj."),
        (Vit, @"\.attention\.attention\.key\.", ".attention.k_proj."),
        (Vit, @"\.attention\.attention\.value\.", ".attention.v_proj."),
        (Vit, @"\.attention\.output\.dense\.", ".attention.o_proj."),
        (Vit, @"\.intermediate\.dense\.", ".mlp.fc1."),
        (Vit, @"(?<=\.layers\.\d+)\.output\.dense\.", ".mlp.fc2."),
        (["dinov3_convnext"], @"^stages\.", "model.stages."),
        (["dinov3_vit"], @"^layer\.", "model.layer."),
        (["altclip"], @"\.layer\.(?=\d)", ".layers."),
        (["timesfm2_5"], @"\.ff0\.", ".fc1."),
        (["timesfm2_5"], @"\.ff1\.", ".fc2."),
        (DetrFamily, @"(?<=^|\.)backbone\.conv_encoder\.", "backbone."),
        (DetrFamily, @"_attn\.out_proj\.", "_attn.o_proj."),
        (DetrFamily, @"(?<l>\.layers\.\d+)\.(?<f>fc[12])\.", "${l}.mlp.${f}."),
        (["rt_detr", "rt_detr_v2", "pp_doclayout_v2", "pp_doclayout_v3"], @"(?<=^|\.)encoder\.encoder\.(?<n>\d+)\.layers\.", "encoder.aifi.${n}.layers."),

        // All models: TensorFlow's names of a LayerNorm.
        (null, @"\.LayerNorm\.gamma$", ".LayerNorm.weight"),
        (null, @"\.LayerNorm\.beta$", ".LayerNorm.bias"),
    ];

    // A tower that stands alone: its class put one more level around it until transformers 5.2x.
    private static readonly string[] VisionTower =
    [
        "clip_vision_model", "siglip_vision_model", "siglip2_vision_model", "altclip_vision_model", "chinese_clip_vision_model", "clipseg_vision_model", "metaclip_2_vision_model",
        "mlcd", "mlcd_vision", "mlcd_vision_model", "xclip_vision_model",
    ];

    private static readonly string[] TextTower = ["clip_text_model", "clipseg_text_model", "metaclip_2_text_model", "siglip_text_model", "siglip2_text_model", "xclip_text_model"];

    // What a model class puts before the names of the model that it wraps: a checkpoint or an adapter of the wrapped model lacks it, or the other
    // way round. Source: base_model_prefix of transformers' classes; the last rows are the text model inside a multi-modal one.
    private static readonly (string[]? ModelTypes, string Bare, string Wrapped)[] WrapperTable =
    [
        .. new[]
        {
            "model.", "transformer.", "backbone.", "language_model.", "thinker.", "gpt_neox.", "rwkv.", "bert.", "roberta.", "xlm_roberta.", "camembert.", "distilbert.", "electra.", "deberta.",
            "albert.", "mpnet.", "esm.", "vit.", "deit.", "beit.", "dinov2.", "convnext.", "swin.", "resnet.", "wav2vec2.", "hubert.", "wavlm.",
        }.Select(prefix => ((string[]?)null, "", prefix)),
        (VisionTower, "", "vision_model."),
        (TextTower, "", "text_model."),
        (null, "model.", "model.language_model."),
        (null, "model.", "model.text_model."),
    ];

    /// <summary>What may stand before the names of a model of some type, and what a wrapping class puts there instead.</summary>
    public static IReadOnlyList<Wrapping> Wrappers(string? modelType) =>
        [.. WrapperTable.Where(r => r.ModelTypes is null || r.ModelTypes.Contains(modelType)).Select(r => new Wrapping(r.Bare, r.Wrapped))];

    /// <summary>The rules of a model, with its sub-models' types among its own.</summary>
    public static IReadOnlyList<NameRule> For(IReadOnlySet<string> modelTypes) =>
        [.. Table.Where(r => r.ModelTypes is null || r.ModelTypes.Any(modelTypes.Contains)).Select(r => new NameRule(new Regex(r.Older, RegexOptions.CultureInvariant | RegexOptions.ExplicitCapture), r.Newer))];
}
