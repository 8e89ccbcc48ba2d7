"""From a trained Keras network to a bundle that ctedge can trust and run; every step is gated.

    ctedge export onnx RUN_FOLDER -o NAME.ctedge      (ctedge_export.onnx_bundle.export_onnx)
    ctedge export precision NAME.ctedge --to fp16     (ctedge_export.precision.precision)
    ctedge export verify NAME.ctedge                  (ctedge_export.verify.verify_bundle)

Rooms: `network` (Keras -> ONNX graph), `gates`, `precision`, `engine` (TensorRT), `lungmask`
(the published U-Net), `cli`; beside them what writes and reads a whole bundle.

Importing this package loads neither TensorFlow nor ONNX: the functions that need them do.
"""
