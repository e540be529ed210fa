//! Files of tensors: safetensors.
