"""Networks as files for other runtimes: ``.pt2`` (torch.export) and ONNX, and back."""
