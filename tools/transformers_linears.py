"""Which modules of transformers' classes a quantizer swaps. Needs torch and transformers, and a checkout of its tests:

    python tools/transformers_linears.py CHECKOUT linears.json

A line for each class; names as in the running model, numbers as *:

linear    exactly nn.Linear: bitsandbytes, FP8 and compressed-tensors readers swap these
other     subclasses of it and Conv1D, which are left alone
experts   3-D parameters of experts
head      the output embedding
fp32      name parts that transformers keeps in fp32
"""
import json
import os
import re
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
from transformers_configs import build, tiny_configs

TASKS = ("CAUSAL_LM MULTIMODAL_LM SEQ_TO_SEQ_CAUSAL_LM SPEECH_SEQ_2_SEQ MASKED_LM PRETRAINING SEQUENCE_CLASSIFICATION TOKEN_CLASSIFICATION "
         "QUESTION_ANSWERING IMAGE_CLASSIFICATION").split()


def star(name):
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)


def entry(models):
    import torch
    from transformers.pytorch_utils import Conv1D
    out = {"linear": set(), "other": set(), "experts": set()}
    for model in models:
        modules = dict(model.named_modules())
        for name, module in modules.items():
            if type(module) is torch.nn.Linear:
                out["linear"].add(star(name))
            elif isinstance(module, (torch.nn.Linear, Conv1D)):
                out["other"].add(star(name))
        out["experts"] |= {star(n) for n, p in model.named_parameters() if p.dim() == 3 and re.search(r"experts\.[^.]+$", n)}
        head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        if head is not None:
            out["head"] = next((star(n) for n, m in modules.items() if m is head), None)
        kept = model._keep_in_fp32_modules
        kept = set((kept or []) if not callable(kept) else []) | set(getattr(model, "_keep_in_fp32_modules_strict", None) or [])
        if kept:
            out["fp32"] = sorted(kept)
    return {k: sorted(v) if isinstance(v, set) else v for k, v in out.items() if v}


def main(checkout, path):
    configs = tiny_configs(checkout)
    import transformers
    from transformers.models.auto import modeling_auto
    out = {}
    for task in TASKS:
        for kind, name in getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES").items():
            name = name if isinstance(name, str) else name[0]
            models = [] if name in out else list(build(getattr(transformers, name), kind, configs, limit=6))
            if models:
                out[name] = entry(models)
    with open(path, "w") as file:
        file.write("{\n" + ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in sorted(out.items())) + "\n}\n")
    print(f"{len(out)} classes")


if __name__ == "__main__":
    main(*sys.argv[1:])
