"""Tiny configurations of every model type: those that transformers' own tests build their models from.

    from transformers_configs import tiny_configs
    tiny_configs("checkout")      # a checkout of transformers of about the installed release: its `tests` package is imported

Gives {model type: [configuration, ...]}, each a plain dictionary, the first ones from the model testers.
"""
import importlib
import inspect
import pathlib
import sys
import types
import unittest
import warnings

# What a tester of a text model may leave to its base class.
DEFAULTS = dict(
    batch_size=2, seq_length=7, is_training=True, use_input_mask=True, use_labels=True, vocab_size=99, hidden_size=32, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=2, intermediate_size=32, hidden_act="gelu", max_position_embeddings=512, pad_token_id=0,
    bos_token_id=1, eos_token_id=2, expert_interval=1, moe_layer_start_index=0, moe_intermediate_size=16, shared_expert_intermediate_size=36,
    shared_expert_gate=True, moe_num_shared_experts=2, num_experts_per_tok=2, num_experts=8)


class Parent(unittest.TestCase):
    """Stands for the test that a tester belongs to."""

    def runTest(self):
        pass


def prepare(checkout):
    """Makes the test package importable without running anything of it."""
    warnings.filterwarnings("ignore")
    sys.path.insert(0, str(checkout))
    import transformers
    import transformers.integrations.tensor_parallel as parallel
    import transformers.testing_utils as testing
    transformers.logging.set_verbosity_error()
    parallel._get_parameter_tp_plan = getattr(parallel, "_get_parameter_tp_plan", None)
    for mixin in ("pipeline", "fsdp", "tensor_parallel", "training"):
        module = types.ModuleType(f"tests.test_{mixin}_mixin")

        def any_class(name):
            if name.startswith("_"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__getattr__ = any_class
        sys.modules[module.__name__] = module
    testing._TEXT_MODEL_TESTER_DEFAULTS = DEFAULTS


def testers(module):
    for name, cls in inspect.getmembers(module, inspect.isclass):
        builds = hasattr(cls, "get_config") or hasattr(cls, "prepare_config_and_inputs")
        if cls.__module__ == module.__name__ and "Test" in name and builds and not issubclass(cls, unittest.TestCase):
            try:
                yield cls(Parent())
            except Exception as e:
                print(f"{module.__name__}.{name}: {e!r}"[:200], file=sys.stderr)


def tiny_configs(checkout):
    prepare(checkout)
    from transformers import PretrainedConfig
    found = {}
    for folder in sorted(pathlib.Path(checkout, "tests/models").iterdir()):
        for file in sorted(folder.glob("test_modeling_*.py")):
            if "_flax" in file.name or "_tf_" in file.name:
                continue
            try:
                module = importlib.import_module(f"tests.models.{folder.name}.{file.stem}")
            except Exception as e:
                print(f"{file.name}: {e!r}"[:200], file=sys.stderr)
                continue
            for tester in testers(module):
                for how in ("get_config", "prepare_config_and_inputs_for_common", "prepare_config_and_inputs"):
                    try:
                        config = getattr(tester, how)()
                        config = config if isinstance(config, PretrainedConfig) else config[0]
                    except Exception:
                        continue
                    if isinstance(config, PretrainedConfig):
                        found.setdefault(config.model_type, []).append(config.to_dict())
                    break
    return found


def build(cls, kind, configs, limit=None):
    """A model of a class without values, of the first configuration that will do; None if none does."""
    import torch
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    tries = [CONFIG_MAPPING[kind].from_dict(c) for c in configs.get(kind, [])]
    try:
        tries.append(CONFIG_MAPPING[kind]())
    except Exception:
        pass
    for config in tries[:limit]:
        try:
            with torch.device("meta"):
                yield cls(config)
        except Exception:
            continue
