"""Recipes with one thing wrong: exit code 2 and one line that says where, before training."""

import pytest

from recipes import edit, mixacm, scratch, two_stages, write_wrong

TEACHER, STUDENT, LOADER = "train.teacher", "models.student_model", "train.train_data_loader"
TERMS = "train.criterion.kwargs.sub_terms"
KD, ACM = f"{TERMS}.kd.criterion", f"{TERMS}.acm.criterion"
PAIRS = f"{ACM}.kwargs.pairs"
FORWARD = "train.model.forward_proc"
HOOKED = "layer.1.block.0.relu_0"
HOOKS = "forward_hook.output"
AFFINE = mixacm(2, 1, "affine")
STAGES = two_stages(mixacm())
ALONE_IN_STAGES = two_stages(scratch())
FOREIGN_AFFINE = "!import_call {key: mixacm_plugin.affine, init: {args: [128, 64]}}"
LINE = "  log_freq: 100"


def pgd(**changes):
    kwargs = {"eps": "8/255", "step_size": "2/255", "steps": 2, **changes}
    given = ", ".join(f"{name}: {value}" for name, value in kwargs.items())
    call = f"{{key: mixacm_plugin.adversarial_forward, init: {{kwargs: {{{given}}}}}}}"
    return scratch(f"!import_call {call}")


def digits(transform=None):
    kwargs = "{split: train}" if transform is None else f"{{split: train, transform: {transform}}}"
    return f"!import_call {{key: mixacm_plugin.Digits, init: {{kwargs: {kwargs}}}}}"


TWO_OUTPUTS = (
    "!import_call {key: mixacm_plugin.clean_and_adversarial_forward, "
    "init: {kwargs: {away_from: labels, eps: 8/255, step_size: 2/255, steps: 1}}}"
)
NORMALISED = digits(
    "!import_call {key: torchvision.transforms.v2.Normalize, "
    "init: {args: [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]}}"
)


LAST_PAIR = "{teacher: {path: relu, io: output}, student: {path: relu, io: output}, weight: -1}"
KEPT = "  teacher:\n    forward_proc"
OPTIMIZER = "train.optimizer={key: SGD, kwargs: {lr: 0.1}"


def misspelt(side):
    """A module path that is misspelt in the pair and in the hooks alike."""
    pair, hooks = f"{side}: {{path: layer.1", f"  {side}:\n    forward_proc"
    head, tail = edit(pair, pair.replace("1", "7")).split(hooks)
    return head + hooks + tail.replace(f"[{HOOKED}", "[layer.7.block.0.relu_0", 1)


# What is wrong: a value of the plain recipe, a recipe, or a value of a recipe. Then the beginning
# of the key path, and words of the message.
TABLE = [
    # Registry keys, with the nearest name
    (f"{STUDENT}.key=dm_wide_resnt", f"{STUDENT}.key", "Did you mean 'dm_wide_resnet'"),
    ("models.teacher_model.key=resnet81", "models.teacher_model.key", "Did you mean 'resnet18'"),
    (f"{ACM}.key=ACMLos", f"{ACM}.key", "no loss 'ACMLos' is registered. Did you mean 'ACMLoss'"),
    ("train.criterion.key=WeightedSum", "train.criterion.key", "'WeightedSumLoss'"),
    ("train.optimizer.key=SDG", "train.optimizer.key", "Did you mean 'SGD'"),
    ("train.scheduler.key=MultistepLR", "train.scheduler.key", "Did you mean 'MultiStepLR'"),
    (f"{LOADER}.collate_fn=mixup", f"{LOADER}.collate_fn", "no collate function 'mixup'"),
    (f"{TEACHER}.forward_proc=forward", f"{TEACHER}.forward_proc", "'forward_all'"),
    (
        edit("    forward_hook", "    sequential: [init_conv, layer.0]\n    forward_hook"),
        f"{TEACHER}.sequential",
        "normalises its input itself",
    ),
    ("train.pre_epoch_process=keep_teacher", "train.pre_epoch_process", "'keep_teacher_in_eval'"),
    (
        (AFFINE, f"{TEACHER}.auxiliary_model_wrapper.key=FrozenTeachr"),
        f"{TEACHER}.auxiliary_model_wrapper.key",
        "Did you mean 'FrozenTeacher'",
    ),
    (
        (scratch(), f"{TERMS}.ce.criterion_wrapper.key=SimpleWrapper"),
        f"{TERMS}.ce.criterion_wrapper.key",
        "Did you mean 'SimpleLossWrapper'",
    ),
    # Module paths and pairs
    (misspelt("teacher"), f"{PAIRS}.middle", "teacher module 'layer.7.block.0.relu_0' not found"),
    (misspelt("student"), f"{PAIRS}.middle", "or 'layer.1.block.0.relu_0'"),
    (misspelt("student"), f"{PAIRS}.middle", "blocks, activated: layer.0.block.0.relu_0 (output),"),
    (f"{TEACHER}.{HOOKS}=[{HOOKED}, relu, batchnrm]", f"{TEACHER}.{HOOKS}", "'batchnorm'"),
    (f"train.student.{HOOKS}=[{HOOKED}, relu, logit]", f"train.student.{HOOKS}", "'logits'"),
    (f"{TEACHER}.{HOOKS}=[relu]", f"{PAIRS}.middle.teacher", f"'{HOOKED}' isn't listed under"),
    (f"train.student.{HOOKS}=[relu]", f"{PAIRS}.middle.student", f"{HOOKS}, which has relu"),
    (f"{PAIRS}.last.student.io=input", f"{PAIRS}.last.student", "forward_hook.input"),
    (f"{KD}.kwargs.student_module_path=logits", f"{TERMS}.kd", "forward_hook"),
    (f"train.student.forward_proc={TWO_OUTPUTS}", f"{TERMS}.kd", "has parts (clean, adversarial)"),
    ((edit("KDLoss", "LogitStdKDLoss"), f"train.student.forward_proc={TWO_OUTPUTS}"), "", "(clean"),
    ((scratch(), f"{FORWARD}={TWO_OUTPUTS}"), f"{TERMS}.ce", "key: OutputPart"),
    (mixacm(1, 2), f"{PAIRS}.middle", "the teacher has 16 channels and the student 32"),
    (mixacm(2, 1), f"{PAIRS}.middle", "the teacher has 32 channels and the student 16"),
    (f"{PAIRS}.last.transform={{side: left, kind: x}}", f"{PAIRS}.last.transform.side", "'left'"),
    (f"{ACM}.kwargs={{pairs: {{}}}}", f"{ACM}.kwargs.pairs", "expected named pairs"),
    # A trainable teacher, an untrained transform
    (f"{TEACHER}.requires_grad=True", f"{TEACHER}.requires_grad", "set requires_grad: False"),
    (edit("    requires_grad: False\n", ""), f"{TEACHER}.requires_grad", "in every stage"),
    ((STAGES, "train.stage1.teacher.requires_grad=True"), "train.stage", "trained"),
    ((STAGES, "train.stage2.teacher.requires_grad=True"), "train.stage2.teacher", "trained"),
    (
        edit("    auxiliary", "    requires_grad: False\n    auxiliary", AFFINE),
        f"{PAIRS}.middle.transform.module",
        "of a FrozenTeacher, without requires_grad: False",
    ),
    (
        (AFFINE, f"{PAIRS}.last.transform.module={FOREIGN_AFFINE}"),
        f"{PAIRS}.last.transform.module",
        f"isn't in the optimiser; list it under {TEACHER}.auxiliary_model_wrapper.kwargs.modules",
    ),
    ((AFFINE, f"{PAIRS}.last.transform.side=student"), f"{PAIRS}.last.transform", "64 to 128"),
    # What only a later stage would find, after the first was trained
    (
        (STAGES, "train.stage2.train_data_loader.kwargs={batch_sise: 64}"),
        "train.stage2.train_data_loader.kwargs.batch_sise",
        "Did you mean 'batch_size'?",
    ),
    ((STAGES, f"train.stage2.student.{HOOKS}=[relu]"), "train.stage2", HOOKED),
    # Classes, numbers and images
    (f"{LOADER}.collate_fn.init.kwargs.num_classes=12", f"{LOADER}.collate_fn", "12 classes"),
    (f"{STUDENT}.kwargs.num_classes=12", f"{LOADER}.collate_fn", "the student has 12"),
    (
        (edit("num_classes: 10", "num_classes: 9", scratch()), f"datasets.few/train={digits()}"),
        LOADER,
        "classes",
    ),
    (
        (scratch().replace("num_classes: 10", "num_classes: 9"), f"datasets.few/train={digits()}"),
        LOADER,
        "classes",
    ),
    (pgd(eps="wide"), FORWARD, "eps: expected a number such as 8/255"),
    (pgd(steps=0), FORWARD, "steps must be a whole number of at least 1; found 0"),
    (pgd(norm="L1"), FORWARD, "norm must be one of Linf, L2; found 'L1'"),
    (f"{TERMS}.acm.weight=heavy", f"{TERMS}.acm.weight", "number"),
    (f"datasets.few/train={NORMALISED}", LOADER, "images range from -1 to 1; expected [0, 1]"),
    (f"datasets.few/val={NORMALISED}", "train.val_data_loader", "images range from -1 to 1"),
    # What is missing, in the wrong place or refused by what it configures
    *(
        (edit(f"\n{name}:\n", "\nnotes:\n"), f"{name}: ", "missing")
        for name in ("datasets", "models", "train", "test")
    ),
    ("models.student_model=null", "models", "expected student_model (or model"),
    ("train.optimizer={key: SGD}", "train.optimizer.kwargs", "missing"),
    (edit("    dst_ckpt: out/student.pt\n", ""), f"{STUDENT}.dst_ckpt", "missing"),
    (f"{TERMS}=null", "train.criterion", "term"),
    (f"{LOADER}.dataset_id=few/trian", f"{LOADER}.dataset_id", "Did you mean 'few/train'"),
    ("train.val_data_loader.dataset_id=x", "train.val_data_loader.dataset_id", "no dataset 'x'"),
    ("test.test_data_loader.dataset_id=x", "test.test_data_loader.dataset_id", "no dataset 'x'"),
    ("datasets.few/test=!import_call {key: recipes.OutOfReach}", "datasets.few/test", "/data"),
    ("datasets=[1, 2]", "", "dataset"),
    ("dependencies.0.name=no_such", "dependencies", "No module named 'no_such'"),
    ("dependencies=7", "dependencies", "can't import 7"),
    (f"{STUDENT}.kwargs.depth=11", f"{STUDENT}.kwargs", "depth must be 6n + 4"),
    (f"{STUDENT}.kwargs={{detph: 10}}", f"{STUDENT}.kwargs", "'detph'"),
    (
        "train.optimizer={key: SGD, kwargs: {lr: 0.1}, grad_accum_step: 0}",
        "train.optimizer.grad_accum_step",
        "at least 1; found 0",
    ),
    (
        "train.optimizer.kwargs={lr: -1}",
        "train.optimizer.kwargs",
        "expected a number above 0; found -1",
    ),
    *(
        (f"{mixacm()}{block}: {{{keys}, mine: 1}}\n", f"{block}.mine", f"{block} doesn't read it")
        for block, keys in (("compute", "precision: bf16"), ("ema", "decay: 0.9"))
    ),
    ("train.optimizer.kwargs={lrr: 1}", "train.optimizer.kwargs.lrr", "Did you mean 'lr'?"),
    ("train.scheduler.kwargs={}", "train.scheduler.kwargs.T_max", "missing"),
    (
        "train.scheduler={key: OneCycleLR, kwargs: {max_lr: 0.1, total_steps: 1}}",
        "train.scheduler.kwargs",
        "the schedule is 1 long, the stage has 2",
    ),
    (
        edit(LINE, f"{LINE}\n  pre_epoch_process: keep_teacher_in_eval", scratch()),
        "train.pre_epoch_process",
        "keep_teacher_in_eval needs a teacher; the recipe has no models.teacher_model",
    ),
    ("train.scheduler.kwargs={T_max: many}", "train.scheduler.kwargs.T_max", "found 'many'"),
    (f"{KD}.kwargs={{}}", f"{KD}.kwargs.student_module_path", "missing"),
    ("train.num_epochs=0", "train.num_epochs", "0"),
    ("train.num_epochs=1.5", "train.num_epochs", "1.5"),
    ("train.num_epochs=many", "train.num_epochs", "many"),
    (f"{LOADER}.kwargs={{batch_size: 64, drop_last: True}}", LOADER, "batch"),
    ("train.val_data_loader.kwargs={batch_size: 64, drop_last: True}", "train.val_data", "batch"),
    (f"{STUDENT}.dst_ckpt=.", f"{STUDENT}.dst_ckpt", "is a folder; name a file"),
    (f"{STUDENT}.dst_ckpt=recipe.yaml/x.pt", f"{STUDENT}.dst_ckpt", "recipe.yaml"),
    # Values of which no use is thinkable
    (f"{TERMS}.acm.weight=-200", f"{TERMS}.acm.weight", "a number of at least 0; found -200"),
    (f"{KD}.kwargs.temperature=-10", f"{KD}.kwargs.temperature", "a number above 0; found -10"),
    (f"{PAIRS}.last={LAST_PAIR}", f"{PAIRS}.last.weight", "a number of at least 0; found -1"),
    ("train.optimizer.kwargs={lr: 0}", "train.optimizer.kwargs.lr", "above 0; found 0"),
    (
        "train.optimizer.kwargs={lr: 0.1, momentum: 5}",
        "train.optimizer.kwargs.momentum",
        "a number from 0 to below 1; found 5",
    ),
    (
        "train.optimizer.kwargs={lr: 0.1, nesterov: []}",
        "train.optimizer.kwargs.nesterov",
        "expected True or False; found []",
    ),
    (f'{STUDENT}.dst_ckpt="a\\0b"', f"{STUDENT}.dst_ckpt", "expected a path or URL"),
    (f"{OPTIMIZER}, max_grad_norm: 0}}", "train.optimizer.max_grad_norm", "above 0; found 0"),
    (
        f"{OPTIMIZER}, module_wise_configs: [{{module: layer, kwargs: {{lrr: 3}}}}]}}",
        "train.optimizer.module_wise_configs.0.kwargs.lrr",
        "SGD doesn't read it here",
    ),
    (
        f"{OPTIMIZER}, module_wise_configs: [{{module: layer, kwargs: {{lr: -1}}}}]}}",
        "train.optimizer.module_wise_configs.0.kwargs.lr",
        "above 0; found -1",
    ),
    (f"{OPTIMIZER}, filters_params: 'no'}}", "train.optimizer.filters_params", "True or False"),
    (f"{OPTIMIZER}, filters_params: False}}", "train.optimizer.filters_params", "leave it out"),
    ("train.log_freq=often", "train.log_freq", "a whole number of at least 1; found 'often'"),
    # Stages and optimisers as the host counts them
    (edit("  stage2:", "  stage3:", STAGES), "train.stage3", "Did you mean 'stage2'?"),
    (edit("  stage2:", "  stage_of_my_own:", STAGES), "train.stage_of_my_own", "expected stage2"),
    (
        "train.optimizer={key: SGD, kwargs: {lr: 0.1}, module_wise_configs: [{module: neck}]}",
        "train.optimizer.module_wise_configs.0.module",
        "student module 'neck' not found",
    ),
    (
        f"{TEACHER}={{forward_proc: forward_batch_only, requires_grad: False, "
        f"frozen_modules: [instance(BachNorm2d)], forward_hook: {{output: [{HOOKED}, relu]}}}}",
        f"{TEACHER}.frozen_modules",
        "no module of a class torch.nn.BachNorm2d; it has BatchNorm2d",
    ),
    *(
        (
            edit(KEPT, KEPT.replace("\n", "\n    keep_train_mode: True\n"), text),
            f"{TEACHER}.keep_train_mode",
            f"{name} puts the teacher into eval mode all the same; leave one of them out",
        )
        for name, text in (
            ("keep_teacher_in_eval", mixacm()),
            (
                "FrozenTeacher",
                edit("pre_epoch_process: keep_teacher_in_eval", "", mixacm(frozen_teacher=True)),
            ),
        )
    ),
    # Of the wrong kind, or tried for the first time after training
    ("models.teacher_model.key=[1]", "models.teacher_model.key", "expected a name; found [1]"),
    ("train=7", "train", "expected a mapping; found 7"),
    ("models=!import_call {key: torch.nn.ReLU}", "models", "expected a mapping; found ReLU()"),
    ("train.criterion.kwargs=x", "train.criterion.kwargs", "expected a mapping; found 'x'"),
    (f"{TERMS}.kd=x", f"{TERMS}.kd", "expected a mapping; found 'x'"),
    (
        f"{LOADER}.collate_fn=[!import_get {{key: torch.nn.ReLU}}]",
        f"{LOADER}.collate_fn",
        "expected ",
    ),
    (f"{TEACHER}.{HOOKS}=7", f"{TEACHER}.{HOOKS}", "expected a list of module paths; found 7"),
    (f"{TEACHER}.{HOOKS}=[1]", f"{TEACHER}.{HOOKS}", "found [1]"),
    (f"{STUDENT}.dst_ckpt=7", f"{STUDENT}.dst_ckpt", "expected a path or URL; found 7"),
    (f"{LOADER}.dataset_id=[1]", f"{LOADER}.dataset_id", "no dataset [1]"),
    ((STAGES, "train.stage2=null"), "train.stage2", "expected a mapping; found None"),
    (f"{LOADER}.kwargs.batch_size=null", LOADER, "expected a batch_size"),
    ("test.test_data_loader.kwargs.batch_size=x", "test.test_data_loader", "batch_size"),
    ("test.test_data_loader.kwargs.batch_size=null", "test.test_data_loader", "batch_size"),
    ("datasets.few/test=7", "test.test_data_loader", "'int'"),
    # Of a later stage
    *(
        (
            (text, f"train.stage2.{section}={{}}"),
            f"train.stage2.{section}.forward_proc",
            f"missing from train.stage2.{section}",
        )
        for text, section in ((STAGES, "teacher"), (STAGES, "student"), (ALONE_IN_STAGES, "model"))
    ),
    ("train.epochs=3", "--set train.epochs=3", "no 'epochs' in train; it has num_epochs"),
    ("train.epochs=3", "--set train.epochs=3", "An override file may add a key"),
]


@pytest.mark.parametrize("wrong, where, words", TABLE, ids=[f"{w}: {x}" for _, w, x in TABLE])
def test_a_broken_recipe_is_refused_in_one_line(wrong, where, words, assert_refused):
    assert_refused(where, words, *write_wrong(wrong))
