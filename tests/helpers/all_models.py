"""Every classification model of torchvision, and one of each of timm's families, as it is tried."""

from typing import Any

import torchvision

SIDE = 64  # of an image, where a model takes any; 32 is too small for the last stages of some
# Those that need larger images, or have to be told their size.
TORCHVISION: dict[str, tuple[int, dict[str, Any]]] = {
    **{name: (64, {"image_size": 64}) for name in ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32")},
    "vit_h_14": (56, {"image_size": 56}),
    "maxvit_t": (224, {}),
    "inception_v3": (96, {"aux_logits": False, "init_weights": False}),
    "googlenet": (64, {"aux_logits": False, "init_weights": False}),
}


def torchvision_models() -> dict[str, tuple[int, dict[str, Any]]]:
    """Side of an image and arguments by name."""
    names = torchvision.models.list_models(module=torchvision.models)
    return {name: TORCHVISION.get(name, (SIDE, {})) for name in names}


# The smallest model of each of timm 1.0.31's families, by parameters, by the side of its images.
TIMM_NAMES = {
    56: ("deepseek_vit_412m"),
    64: (
        "test_byobnet convmixer_768_32 test_convnext cpubone_nano csatv2 cs3darknet_focus_s "
        "cspnext_tiny davit_tiny densenet121 dla46x_c dpn48b edgenext_xx_small test_efficientnet "
        "efficientvim_m1 efficientvit_b0 fasternet_t0 fastvit_t8 focalnet_tiny_srf ghostnet_050 "
        "hardcorenas_b hgnetv2_b0 sam2_hiera_tiny hrnet_w18_small iformer_t inception_next_atto "
        "lcnetv2_small lowformer_b0 test_mambaout poolformerv2_s12 lcnet_035 mobilenetv5_base "
        "mobilevit_xxs naflexvit_base_patch16_parfac_gap nasnetalarge nextvit_small test_nfnet "
        "pnasnet5large pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002 repghostnet_050 repvit_m1 "
        "res2next50 resnest14d test_resnet resnetv2_18 rexnet_100 selecsls42 legacy_seresnet18 "
        "shvit_s1 skresnet18 starnet_s050 tiny_vit_5m_224 tresnet_m vgg11 ese_vovnet19b_slim_dw "
        "legacy_xception xception41p"
    ),
    96: ("gemma4_vit_167m_enc inception_resnet_v2 inception_v3 inception_v4"),
    160: ("test_coatnet test_vit test_vit_relpos"),
    224: (
        "beit_base_patch16_224 cait_xxs24_224 coat_tiny convit_tiny deit_tiny_patch16_224 "
        "efficientformer_l1 efficientformerv2_s0 efficientvit_m0 gcvit_xxtiny hiera_tiny_224 "
        "levit_128s gmlp_ti16_224 mvitv2_tiny nest_tiny pit_ti_224 sequencer2d_s swiftformer_xs "
        "swin_tiny_patch4_window7_224 swinv2_cr_tiny_224 tnt_s_legacy_patch16_224 twins_svt_small "
        "visformer_tiny vit_tiny_r_s16_p8_224 samvit_base_patch16_224 vitamin_small_224 "
        "volo_d1_224 xcit_nano_12_p8_224"
    ),
    240: ("crossvit_tiny_240"),
    256: ("halonet_h1 vit_tiny_patch16_dinov3_qkvb swinv2_tiny_window8_256"),
}
TIMM = {name: side for side, names in TIMM_NAMES.items() for name in names.split()}
# Those without hook points, with the reason.
REFUSED = {
    "timm:crossvit_tiny_240": "no feature map of a module is crossed by every path",
    "timm:gemma4_vit_167m_enc": "the model returns a tensor of shape .*; expected logits",
}
