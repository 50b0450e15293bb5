using System.Collections.Frozen;

namespace UnslothMerge.Pickle;

/// <summary>A class of storages, for example <c>torch.HalfStorage</c>.</summary>
internal sealed record StorageClass(TensorType Type);

/// <summary>A class of tensors: <c>torch.Tensor</c> or a parameter.</summary>
internal sealed record TensorClass;

/// <summary>A callable in the pickle of a state dict. It builds a description from its arguments, null if they are not what torch writes;
/// no code of the file is executed.</summary>
internal sealed record PickledCallable(string Name, Func<object?[], object?> Call);

/// <summary>The only globals that a state dict needs. Source: torch 2.13, <c>torch/_utils.py</c> and <c>torch/storage.py</c>.</summary>
internal static class PickledGlobals
{
    private const string FromType = "torch._tensor._rebuild_from_type_v2";

    private static readonly FrozenDictionary<string, object> Known = new Dictionary<string, object>(StringComparer.Ordinal)
    {
        ["collections.OrderedDict"] = new PickledCallable(
            "collections.OrderedDict", arguments => arguments.Length == 0 ? new PickledDict() : null),
        ["torch._utils._rebuild_tensor_v2"] = new PickledCallable("torch._utils._rebuild_tensor_v2", Tensor),
        ["torch._utils._rebuild_parameter"] = new PickledCallable(
            "torch._utils._rebuild_parameter", arguments => arguments is [PickledTensor tensor, bool, _] ? tensor : null),
        ["torch._utils._rebuild_parameter_with_state"] = new PickledCallable(
            "torch._utils._rebuild_parameter_with_state", arguments => arguments is [PickledTensor tensor, bool, _, _] ? tensor : null),
        [FromType] = new PickledCallable(FromType, Typed),
        ["torch.Tensor"] = new TensorClass(),
        ["torch.nn.parameter.Parameter"] = new TensorClass(),
        ["torch.HalfStorage"] = new StorageClass(TensorType.F16),
        ["torch.BFloat16Storage"] = new StorageClass(TensorType.BF16),
        ["torch.FloatStorage"] = new StorageClass(TensorType.F32),
        ["torch.DoubleStorage"] = new StorageClass(TensorType.F64),
        ["torch.BoolStorage"] = new StorageClass(TensorType.BOOL),
        ["torch.ByteStorage"] = new StorageClass(TensorType.U8),
        ["torch.CharStorage"] = new StorageClass(TensorType.I8),
        ["torch.ShortStorage"] = new StorageClass(TensorType.I16),
        ["torch.IntStorage"] = new StorageClass(TensorType.I32),
        ["torch.LongStorage"] = new StorageClass(TensorType.I64),
        ["torch.ComplexFloatStorage"] = new StorageClass(TensorType.C64),
    }.ToFrozenDictionary(StringComparer.Ordinal);

    public static object? Find(string name) => Known.GetValueOrDefault(name);

    // (storage, storage_offset, size, stride, requires_grad, backward_hooks[, metadata]). Metadata marks conjugated and negated views.
    private static PickledTensor? Tensor(object?[] arguments) =>
        arguments is [PickledStorage storage, long and >= 0 and var offset, object?[] size, object?[] stride, bool, _]
            && Dimensions(size) is { } shape && Dimensions(stride) is { } strides && shape.Length == strides.Length
            ? new PickledTensor(storage, offset, shape, strides)
            : null;

    // (function, class, its arguments, state): a tensor with Python attributes, which do not matter. Never nested: nothing recurses.
    private static PickledTensor? Typed(object?[] arguments) =>
        arguments is [PickledCallable { Name: not FromType } callable, TensorClass, object?[] inner, _]
            ? callable.Call(inner) as PickledTensor
            : null;

    private static long[]? Dimensions(object?[] values) =>
        Array.TrueForAll(values, v => v is long and >= 0) ? Array.ConvertAll(values, v => (long)v!) : null;
}
