"""What transformers knows of its models' names, as data for the module. Needs torch and transformers, and a checkout of its tests:

    python tools/transformers_names.py CHECKOUT src/UnslothMerge.Engine/Models/transformers.json

auto          task -> model type -> class
tie_default   model type -> whether embedding and head are tied where the config does not say; [whole model, language model] where they differ
rules         model type or class -> its rules from a checkpoint's names to the running model's, in order
classes       class -> type, prefix (the base model's attribute), tied (tensor -> the one that it shares), head (the parameters beside the base
              model), body (the parts of the base model), scopes ([part of the model or null, list of rules], in order)

One line an entry, so that a new release is a small difference.
"""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
from transformers_configs import build, tiny_configs

TASKS = dict(
    causal="CAUSAL_LM", multimodal="MULTIMODAL_LM", seq2seq="SEQ_TO_SEQ_CAUSAL_LM", speech="SPEECH_SEQ_2_SEQ", masked="MASKED_LM", pretraining="PRETRAINING",
    sequence="SEQUENCE_CLASSIFICATION", token="TOKEN_CLASSIFICATION", question="QUESTION_ANSWERING", choice="MULTIPLE_CHOICE",
    image="IMAGE_CLASSIFICATION", audio="AUDIO_CLASSIFICATION", ctc="CTC", object="OBJECT_DETECTION", semantic="SEMANTIC_SEGMENTATION",
    instance="INSTANCE_SEGMENTATION", universal="UNIVERSAL_SEGMENTATION", depth="DEPTH_ESTIMATION", mask="MASK_GENERATION", video="VIDEO_CLASSIFICATION",
    zeroshot="ZERO_SHOT_IMAGE_CLASSIFICATION", zeroshot_object="ZERO_SHOT_OBJECT_DETECTION", question_visual="VISUAL_QUESTION_ANSWERING",
    masked_image="MASKED_IMAGE_MODELING", xvector="AUDIO_XVECTOR", frame="AUDIO_FRAME_CLASSIFICATION", encoding="TEXT_ENCODING", retrieval="RETRIEVAL",
    keypoint="KEYPOINT_DETECTION", pose="POSE_ESTIMATION", speech_rnnt="RNNT", waveform="TEXT_TO_WAVEFORM", spectrogram="TEXT_TO_SPECTROGRAM", base="")


def plain(value):
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    return repr(type(value).__name__)


def operation(op):
    return {"name": type(op).__name__, **{k: plain(getattr(op, k)) for k in getattr(op, "__dict__", {}) if not k.startswith("_")}}


def rule(transform):
    out = {"kind": type(transform).__name__}
    if out["kind"] == "LayerPairCollapse":
        return out
    if out["kind"] == "PrefixChange":
        if transform.prefix_to_add is not None:
            out["add"] = transform.prefix_to_add
        if transform.prefix_to_remove is not None:
            out["remove"] = transform.prefix_to_remove
        if transform.model_prefix:
            out["below"] = transform.model_prefix
        return out
    out["from"], out["to"] = list(transform._original_source_patterns), list(transform._original_target_patterns)
    if hasattr(transform, "offset"):
        out["offset"] = transform.offset
    if hasattr(transform, "operations"):
        out["operations"] = [operation(o) for o in transform.operations]
    return out


class Origins:
    """Remembers which list each rule comes from while a model's rules are collected."""

    def __init__(self, mapping):
        self.inner, self.of = mapping.get_checkpoint_conversion_mapping, {}
        mapping.get_checkpoint_conversion_mapping = self.recorded

    def recorded(self, key):
        found = self.inner(key)
        for transform in found or []:
            self.of[id(transform)] = key
        return found


def entry(cls, kind, task, model, mapping, origins):
    prefix = cls.base_model_prefix
    out = {"type": kind, "prefix": prefix}
    tied = getattr(model, "_tied_weights_keys", None)
    if tied:
        out["tied"] = tied if isinstance(tied, dict) else sorted(tied)
    keys = list(model.state_dict())
    if prefix and any(k.startswith(prefix + ".") for k in keys):
        head = [k for k in keys if not k.startswith(prefix + ".")]
        if head and len(head) <= 40:
            out["head"] = head
        if task in ("sequence", "token", "question", "choice"):
            out["body"] = sorted({k[len(prefix) + 1:].split(".")[0] for k in keys if k.startswith(prefix + ".")})
    origins.of.clear()
    scopes = []
    for transform in mapping.get_model_conversion_mapping(model, add_legacy=False):
        place = [transform.scope_prefix, origins.of[id(transform)]]
        if place not in scopes:
            scopes.append(place)
    if scopes:
        out["scopes"] = scopes
    return out


def tie_defaults(mapping):
    out = {}
    for kind in mapping.keys():
        try:
            config = mapping[kind]()
            text = config.get_text_config()
        except Exception:
            continue
        top, inner = getattr(config, "tie_word_embeddings", None), getattr(text, "tie_word_embeddings", None)
        if top is not None:
            out[kind] = top if text is config or inner == top or inner is None else [top, inner]
    return out


def main(checkout, path):
    configs = tiny_configs(checkout)
    import transformers
    import transformers.conversion_mapping as mapping
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    mapping.get_checkpoint_conversion_mapping("llama")                      # fills the cache
    rules = {k: [rule(t) for t in v] for k, v in sorted(mapping._checkpoint_conversion_mapping_cache.items())}
    origins, auto, classes, missing = Origins(mapping), {}, {}, set()
    for task, family in TASKS.items():
        table = getattr(modeling_auto, f"MODEL_FOR_{family}_MAPPING_NAMES" if family else "MODEL_MAPPING_NAMES")
        auto[task] = {k: n if isinstance(n, str) else n[0] for k, n in table.items()}
        for kind, name in auto[task].items():
            if name in classes:
                continue
            cls = getattr(transformers, name, None)
            model = cls and next(build(cls, kind, configs), None)
            if model is None:
                missing.add(name)
            else:
                classes[name] = entry(cls, kind, task, model, mapping, origins)
    data = {"auto": auto, "tie_default": tie_defaults(CONFIG_MAPPING), "rules": rules, "classes": dict(sorted(classes.items()))}

    def text(value):
        return json.dumps(value, separators=(",", ":"))

    sections = (f"{text(s)}:{{\n" + ",\n".join(f"{text(k)}:{text(v)}" for k, v in d.items()) + "\n}" for s, d in data.items())
    with open(path, "w") as out:
        out.write('{"transformers":' + text(transformers.__version__) + ",\n" + ",\n".join(sections) + "}\n")
    print(f"{len(rules)} lists of rules, {len(classes)} classes; not built: {', '.join(sorted(missing - set(classes)))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
