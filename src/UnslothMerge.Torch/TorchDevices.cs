using UnslothMerge.Torch.Native;

namespace UnslothMerge.Torch;

/// <summary>Opens libtorch devices. The engine finds this class by its name.</summary>
internal sealed class TorchDevices : ITorchDevices
{
    public IMergeDevice Open(DeviceRequest request)
    {
        var cuda = request.Kind == DeviceKind.Cuda;
        if (cuda && request.Index >= CudaDriver.Count)
        {
            throw new MergeException(
                MergeError.DeviceUnavailable,
                CudaDriver.Count == 0
                    ? $"There is no NVIDIA GPU for -Device {request}, or no driver for it."
                    : $"There is no {request}: this machine has " +
                    $"{CudaDriver.Count} GPU{(CudaDriver.Count == 1 ? "" : "s, counted from cuda:0")}.",
                "Device",
                CudaDriver.Count == 0
                    ? "Use -Device cpu; if there is a GPU, check that nvidia-smi lists it." : "Use cuda:0, or -Device cpu.");
        }

        return new TorchDevice(request, LibTorchLoader.Load(cuda));
    }
}
