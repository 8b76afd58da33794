"""Which fork of Caffe defines a field, enum value or layer type that BVLC Caffe does not have. For error messages.

Where BVLC Caffe says the same in another way, ``REMEDIES`` has it.
"""

SSD = "SSD (weiliu89/caffe)"
NVIDIA = "NVIDIA/caffe"
INTEL = "intel/caffe"
FAST_RCNN = "Fast R-CNN (rbgirshick/caffe-fast-rcnn)"
R_FCN = "R-FCN (daijifeng001/caffe-rfcn)"
SEGNET = "SegNet (alexgkendall/caffe-segnet)"
FCN = "FCN (longjon/caffe)"
PSPNET = "PSPNet (hszhao/PSPNet)"
JOLIBRAIN = "jolibrain/caffe"
YJXIONG = "yjxiong/caffe"
HAPPYNEAR = "happynear/caffe-windows"
SENET = "SENet (hujie-frank/SENet)"
SHUFFLENET = "ShuffleNet (farmingyard/ShuffleNet)"
OPENCL = "the opencl branch of BVLC/caffe"
PULL_3057 = "pull request 3057 of BVLC/caffe"

FIELDS = {
    "SolverParameter": {
        SSD: "eval_type ap_version show_per_class_result",
        NVIDIA: "larc larc_policy larc_eta larc_turbo rampup_interval rampup_lr momentum_policy "
        "max_momentum weight_decay_policy test_and_snapshot_last_epochs solver_data_type",
        INTEL: "stagelr stageiter local_lr_auto local_gw_ratio disabled_update engine test_offset",
    },
    "NetParameter": {
        SSD: "item",
        NVIDIA: "default_forward_type default_backward_type default_forward_math default_backward_math "
        "global_grad_scale global_grad_scale_adaptive reduce_buckets eltwise_mem_sharing",
        INTEL: "engine compile_net_state",
        YJXIONG: "mem_param",
    },
    "LayerParameter": {
        SSD: "annotated_data_param detection_evaluate_param detection_output_param multibox_loss_param "
        "norm_param permute_param prior_box_param video_data_param",
        NVIDIA: "forward_type backward_type forward_math backward_math detectnet_groundtruth_param "
        "detectnet_augmentation_param",
        INTEL: "engine quantization_param multinode mn_activation_param spatial_dropout_param split_param",
        FAST_RCNN: "roi_pooling_param smooth_l1_loss_param",
        R_FCN: "psroi_pooling_param box_annotator_ohem_param",
        SEGNET: "upsample_param dense_image_data_param bn_param",
        PSPNET: "interp_param bn_param",
        YJXIONG: "bn_param",
        HAPPYNEAR: "center_loss_param focal_loss_param triplet_loss_param",
        SHUFFLENET: "shuffle_channel_param",
    },
    "TransformationParameter": {
        SSD: "resize_param noise_param distort_param expand_param emit_constraint crop_h crop_w",
        NVIDIA: "use_gpu_transform",
        INTEL: "random_resize_param random_aspect_ratio_param",
    },
    "LossParameter": {
        NVIDIA: "label_smoothing",
        INTEL: "label_smoothing pre_fixed_normalizer",
        SEGNET: "weight_by_label_freqs class_weighting",
    },
    "DataParameter": {
        NVIDIA: "threads parser_threads cache shuffle",
        INTEL: "shuffle",
        YJXIONG: "shuffle",
    },
    "BatchNormParameter": {
        NVIDIA: "scale_bias scale_filler bias_filler engine",
        INTEL: "engine",
    },
    "ConvolutionParameter": {
        NVIDIA: "cudnn_convolution_algo_seeker",
        OPENCL: "fuse_type",
    },
    "ConvolutionParameter.Engine": {INTEL: "MKL2017 MKLDNN", OPENCL: "LIBDNN SPATIAL INTEL_SPATIAL"},
    "PoolingParameter": {PULL_3057: "ceil_mode"},
    "LayerParameter.type": {
        SSD: "AnnotatedData DetectionEvaluate DetectionOutput MultiBoxLoss Normalize Permute PriorBox VideoData",
        FAST_RCNN: "ROIPooling SmoothL1Loss",
        R_FCN: "PSROIPooling BoxAnnotatorOHEM SmoothL1LossOHEM SoftmaxWithLossOHEM",
        SEGNET: "BN Upsample DenseImageData",
        PSPNET: "BN Interp",
        YJXIONG: "BN SyncBN SegData BatchReduction Gather Scatter",
        SENET: "Axpy",
        SHUFFLENET: "ShuffleChannel",
        JOLIBRAIN: "ConvolutionDepthwise CtcLoss DiceCoefLoss SparseData SparseInnerProduct DenseImageData Interp "
        "Upsample ReLU6 SeLu",
        NVIDIA: "Axpy DetectNetTransformation L1Loss",
        INTEL: "BoxData EvalDetection RegionLoss Reorg SpatialDropout MnActivation",
        HAPPYNEAR: "CenterLoss FocalLoss TripletLoss MarginInnerProduct Flip ChannelScale",
    },
    "V1LayerParameter.LayerType": {FCN: "CROP", SEGNET: "BN UPSAMPLE DENSE_IMAGE_DATA"},
}

REMEDIES = {
    ("SolverParameter", "rampup_interval"): "warmup_iter says the same",
    ("SolverParameter", "rampup_lr"): "warmup_start_lr says the same",
    ("NetParameter", "item"): "this is a label map, not a net",
    ("PoolingParameter", "ceil_mode"): "ceil_mode: false is round_mode: FLOOR",
    ("BatchNormParameter", "scale_bias"): "add a Scale layer with bias_term: true",
    ("V1LayerParameter.LayerType", "CROP"): 'write the net in the current format, where type: "Crop" exists',
}


def hint(owner: str, name: str) -> str:
    """``; <fork> defines it, BVLC Caffe does not: <remedy>``, or an empty string for a name that is nobody's.

    ``owner`` is the message, the enum as ``ConvolutionParameter.Engine``, or ``LayerParameter.type``.
    """
    forks = [fork for fork, names in FIELDS.get(owner, {}).items() if name in names.split()]
    if not forks:
        return ""
    remedy = REMEDIES.get((owner, name))
    verb = "defines" if len(forks) == 1 else "define"
    return f"; {' and '.join(forks)} {verb} it, BVLC Caffe does not" + (f": {remedy}" if remedy else "")
