"""Names, order and defaults of arguments are PyTorch's, so that a script moves over without a change.

What PyTorch has and oxon has not (`size_average`, `foreach`, …) stands last there; where it stands
between, the arguments after it are keyword-only here.
"""

import inspect

import pytest
from oxon import nn, optim

LAYERS = {
    "CELU": "alpha=1.0, inplace=False",
    "ELU": "alpha=1.0, inplace=False",
    "GELU": "approximate='none'",
    "GLU": "dim=-1",
    "GRU": (
        "input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, "
        "bidirectional=False, device=None, dtype=None"
    ),
    "GRUCell": "input_size, hidden_size, bias=True, device=None, dtype=None",
    "LSTM": (
        "input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, "
        "bidirectional=False, proj_size=0, device=None, dtype=None"
    ),
    "LSTMCell": "input_size, hidden_size, bias=True, device=None, dtype=None",
    "RNN": (
        "input_size, hidden_size, num_layers=1, nonlinearity='tanh', bias=True, batch_first=False, "
        "dropout=0.0, bidirectional=False, device=None, dtype=None"
    ),
    "RNNCell": "input_size, hidden_size, bias=True, nonlinearity='tanh', device=None, dtype=None",
    "SELU": "inplace=False",
    "AdaptiveAvgPool1d": "output_size",
    "AdaptiveAvgPool2d": "output_size",
    "AdaptiveMaxPool1d": "output_size, return_indices=False",
    "AdaptiveMaxPool2d": "output_size, return_indices=False",
    "AvgPool1d": "kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True",
    "AvgPool2d": "kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True",
    "BCELoss": "weight=None, reduction='mean'",
    "BCEWithLogitsLoss": "weight=None, *, reduction='mean', pos_weight=None",
    "BatchNorm1d": (
        "num_features, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True, *, "
        "device=None, dtype=None, bias=True"
    ),
    "BatchNorm2d": (
        "num_features, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True, *, "
        "device=None, dtype=None, bias=True"
    ),
    "Bilinear": "in1_features, in2_features, out_features, bias=True, *, device=None, dtype=None",
    "Conv1d": (
        "in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, "
        "bias=True, padding_mode='zeros', *, device=None, dtype=None"
    ),
    "Conv2d": (
        "in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, "
        "bias=True, padding_mode='zeros', *, device=None, dtype=None"
    ),
    "CosineEmbeddingLoss": "margin=0.0, *, reduction='mean'",
    "CrossEntropyLoss": "weight=None, *, ignore_index=-100, reduction='mean', label_smoothing=0.0",
    "Dropout": "p=0.5, inplace=False",
    "Dropout1d": "p=0.5, inplace=False",
    "Dropout2d": "p=0.5, inplace=False",
    "Embedding": "num_embeddings, embedding_dim, padding_idx=None, *, device=None, dtype=None",
    "Flatten": "start_dim=1, end_dim=-1",
    "GaussianNLLLoss": "*, full=False, eps=1e-06, reduction='mean'",
    "GroupNorm": "num_groups, num_channels, eps=1e-05, affine=True, *, device=None, dtype=None, bias=True",
    "Hardshrink": "lambd=0.5",
    "Hardsigmoid": "inplace=False",
    "Hardswish": "inplace=False",
    "Hardtanh": "min_val=-1.0, max_val=1.0, inplace=False",
    "HingeEmbeddingLoss": "margin=1.0, *, reduction='mean'",
    "HuberLoss": "reduction='mean', delta=1.0",
    "InstanceNorm1d": (
        "num_features, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False, *, "
        "device=None, dtype=None, bias=True"
    ),
    "InstanceNorm2d": (
        "num_features, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False, *, "
        "device=None, dtype=None, bias=True"
    ),
    "KLDivLoss": "reduction='mean', log_target=False",
    "L1Loss": "reduction='mean'",
    "LayerNorm": (
        "normalized_shape, eps=1e-05, elementwise_affine=True, bias=True, *, device=None, dtype=None"
    ),
    "LeakyReLU": "negative_slope=0.01, inplace=False",
    "Linear": "in_features, out_features, bias=True, *, device=None, dtype=None",
    "LogSoftmax": "dim",
    "MSELoss": "reduction='mean'",
    "MarginRankingLoss": "margin=0.0, *, reduction='mean'",
    "MaxPool1d": "kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False",
    "MaxPool2d": "kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False",
    "Mish": "inplace=False",
    "NLLLoss": "weight=None, *, ignore_index=-100, reduction='mean'",
    "MultiheadAttention": (
        "embed_dim, num_heads, dropout=0.0, bias=True, add_bias_kv=False, add_zero_attn=False, kdim=None, "
        "vdim=None, batch_first=False, device=None, dtype=None"
    ),
    "PReLU": "num_parameters=1, init=0.25, *, device=None, dtype=None",
    "Parameter": "data, requires_grad=True",
    "PoissonNLLLoss": "log_input=True, full=False, *, eps=1e-08, reduction='mean'",
    "RMSNorm": "normalized_shape, eps=None, elementwise_affine=True, *, device=None, dtype=None",
    "ReLU": "inplace=False",
    "ReLU6": "inplace=False",
    "SiLU": "inplace=False",
    "SmoothL1Loss": "reduction='mean', beta=1.0",
    "SoftMarginLoss": "reduction='mean'",
    "Softmax": "dim",
    "Softmin": "dim",
    "Softplus": "beta=1.0, threshold=20.0",
    "Softshrink": "lambd=0.5",
    "Threshold": "threshold, value, inplace=False",
    "TransformerDecoder": "decoder_layer, num_layers, norm=None",
    "TransformerDecoderLayer": (
        "d_model, nhead, dim_feedforward=2048, dropout=0.1, activation='relu', layer_norm_eps=1e-05, "
        "batch_first=False, norm_first=False, bias=True, device=None, dtype=None"
    ),
    "TransformerEncoder": (
        "encoder_layer, num_layers, norm=None, enable_nested_tensor=True, mask_check=True"
    ),
    "TransformerEncoderLayer": (
        "d_model, nhead, dim_feedforward=2048, dropout=0.1, activation='relu', layer_norm_eps=1e-05, "
        "batch_first=False, norm_first=False, bias=True, device=None, dtype=None"
    ),
    "TripletMarginLoss": "margin=1.0, p=2.0, eps=1e-06, swap=False, *, reduction='mean'",
    "Unflatten": "dim, unflattened_size",
}

OPTIM = {
    "SGD": (
        "params, lr=0.001, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, *, maximize=False"
    ),
    "Adadelta": "params, lr=1.0, rho=0.9, eps=1e-06, weight_decay=0.0, *, maximize=False",
    "Adagrad": (
        "params, lr=0.01, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10, "
        "*, maximize=False"
    ),
    "Adam": (
        "params, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0, amsgrad=False, *, "
        "maximize=False, decoupled_weight_decay=False"
    ),
    "AdamW": (
        "params, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01, amsgrad=False, *, maximize=False"
    ),
    "ChainedScheduler": "schedulers, optimizer=None",
    "ConstantLR": "optimizer, factor=1/3, total_iters=5, last_epoch=-1",
    "CosineAnnealingLR": "optimizer, T_max, eta_min=0.0, last_epoch=-1",
    "CosineAnnealingWarmRestarts": "optimizer, T_0, T_mult=1, eta_min=0.0, last_epoch=-1",
    "ExponentialLR": "optimizer, gamma, last_epoch=-1",
    "LambdaLR": "optimizer, lr_lambda, last_epoch=-1",
    "LinearLR": "optimizer, start_factor=1/3, end_factor=1.0, total_iters=5, last_epoch=-1",
    "MultiStepLR": "optimizer, milestones, gamma=0.1, last_epoch=-1",
    "MultiplicativeLR": "optimizer, lr_lambda, last_epoch=-1",
    "OneCycleLR": (
        "optimizer, max_lr, total_steps=None, epochs=None, steps_per_epoch=None, pct_start=0.3, "
        "anneal_strategy='cos', cycle_momentum=True, base_momentum=0.85, max_momentum=0.95, "
        "div_factor=25.0, final_div_factor=10000.0, three_phase=False, last_epoch=-1"
    ),
    "PolynomialLR": "optimizer, total_iters=5, power=1.0, last_epoch=-1",
    "RMSprop": (
        "params, lr=0.01, alpha=0.99, eps=1e-08, weight_decay=0.0, momentum=0.0, centered=False, *, "
        "maximize=False"
    ),
    "ReduceLROnPlateau": (
        "optimizer, mode='min', factor=0.1, patience=10, threshold=0.0001, threshold_mode='rel', "
        "cooldown=0, min_lr=0.0, eps=1e-08"
    ),
    "SequentialLR": "optimizer, schedulers, milestones, last_epoch=-1",
    "StepLR": "optimizer, step_size, gamma=0.1, last_epoch=-1",
    "clip_grad_norm_": "parameters, max_norm, norm_type=2.0, error_if_nonfinite=False",
    "clip_grad_value_": "parameters, clip_value",
}

FUNCTIONS = {
    "adaptive_avg_pool2d": "x, output_size",
    "adaptive_max_pool2d": "x, output_size, return_indices=False",
    "batch_norm": (
        "x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-05"
    ),
    "bilinear": "x1, x2, weight, bias=None",
    "binary_cross_entropy_with_logits": "x, target, weight=None, reduction='mean', pos_weight=None",
    "celu": "x, alpha=1.0",
    "conv1d": "x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1",
    "conv2d": "x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1",
    "cosine_embedding_loss": "x1, x2, target, margin=0.0, reduction='mean'",
    "cosine_similarity": "x1, x2, dim=1, eps=1e-08",
    "dropout1d": "x, p=0.5, training=True",
    "dropout2d": "x, p=0.5, training=True",
    "elu": "x, alpha=1.0",
    "gaussian_nll_loss": "x, target, var, full=False, eps=1e-06, reduction='mean'",
    "gelu": "x, approximate='none'",
    "glu": "x, dim=-1",
    "hardshrink": "x, lambd=0.5",
    "hardsigmoid": "x",
    "hardswish": "x",
    "hardtanh": "x, min_val=-1.0, max_val=1.0",
    "hinge_embedding_loss": "x, target, margin=1.0, reduction='mean'",
    "huber_loss": "x, target, reduction='mean', delta=1.0",
    "instance_norm": (
        "x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, "
        "momentum=0.1, eps=1e-05"
    ),
    "kl_div": "x, target, reduction='mean', log_target=False",
    "leaky_relu": "x, negative_slope=0.01",
    "margin_ranking_loss": "x1, x2, target, margin=0.0, reduction='mean'",
    "mish": "x",
    "normalize": "x, p=2.0, dim=1, eps=1e-12",
    "pairwise_distance": "x1, x2, p=2.0, eps=1e-06, keepdim=False",
    "poisson_nll_loss": "x, target, log_input=True, full=False, eps=1e-08, reduction='mean'",
    "prelu": "x, weight",
    "relu6": "x",
    "rms_norm": "x, normalized_shape, weight=None, eps=None",
    "scaled_dot_product_attention": (
        "query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False"
    ),
    "selu": "x",
    "smooth_l1_loss": "x, target, reduction='mean', beta=1.0",
    "soft_margin_loss": "x, target, reduction='mean'",
    "softmin": "x, dim, dtype=None",
    "softplus": "x, beta=1.0, threshold=20.0",
    "softshrink": "x, lambd=0.5",
    "softsign": "x",
    "tanhshrink": "x",
    "threshold": "x, threshold, value",
    "triplet_margin_loss": (
        "anchor, positive, negative, margin=1.0, p=2.0, eps=1e-06, swap=False, reduction='mean'"
    ),
}

INIT = {
    "uniform_": "tensor, a=0.0, b=1.0, generator=None",
    "normal_": "tensor, mean=0.0, std=1.0, generator=None",
    "trunc_normal_": "tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None",
    "constant_": "tensor, val",
    "zeros_": "tensor",
    "ones_": "tensor",
    "eye_": "tensor",
    "dirac_": "tensor, groups=1",
    "calculate_gain": "nonlinearity, param=None",
    "xavier_uniform_": "tensor, gain=1.0, generator=None",
    "xavier_normal_": "tensor, gain=1.0, generator=None",
    "kaiming_uniform_": "tensor, a=0.0, mode='fan_in', nonlinearity='leaky_relu', generator=None",
    "kaiming_normal_": "tensor, a=0.0, mode='fan_in', nonlinearity='leaky_relu', generator=None",
    "orthogonal_": "tensor, gain=1.0, generator=None",
}

CASES = [
    (module, name, text)
    for module, table in ((nn, LAYERS), (optim, OPTIM), (nn.functional, FUNCTIONS), (nn.init, INIT))
    for name, text in table.items()
]


def signature(function):
    parts, starred = [], False
    for p in inspect.signature(function).parameters.values():
        if p.kind is p.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        default = "1/3" if p.default == 1 / 3 else repr(p.default)
        parts.append(p.name if p.default is p.empty else f"{p.name}={default}")
    return ", ".join(parts)


@pytest.mark.parametrize(("module", "name", "text"), CASES, ids=[f"{m.__name__}.{n}" for m, n, _ in CASES])
def test_signature(module, name, text):
    assert signature(getattr(module, name)) == text
