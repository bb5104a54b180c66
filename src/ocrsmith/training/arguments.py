"""Our settings in the words of transformers' Trainer."""

from __future__ import annotations

from pathlib import Path

from transformers import TrainingArguments

from ocrsmith.training.hardware import Hardware
from ocrsmith.training.settings import TrainSettings


def warmup_steps(settings: TrainSettings, steps: int) -> int:
    """As asked, but at most a quarter of a short run: the first step of a warm-up has a rate of 0."""
    return min(settings.warmup_steps, steps // 4)


def training_arguments(
    settings: TrainSettings,
    hardware: Hardware,
    run: Path,
    steps: int,
    save_every: int,
    evaluates: bool,
) -> TrainingArguments:
    """Our settings in the Trainer's words.

    Its batch is a whole optimiser step, which `StepLearner` divides. Autocast and loss scaling stay off: the
    model casts by itself, and `OcrTrainer` scales.
    """
    arguments = TrainingArguments(
        output_dir=str(run / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=settings.samples_per_step,
        gradient_accumulation_steps=1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=warmup_steps(settings, steps),
        optim=hardware.optimizer,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=not hardware.on_gpu,
        bf16=False,
        fp16=False,
        logging_steps=settings.log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=save_every,
        save_total_limit=settings.keep_checkpoints + 1,  # the best is one of them
        eval_strategy="steps" if evaluates else "no",
        eval_steps=save_every if evaluates else None,
        metric_for_best_model="figure" if evaluates else None,
        greater_is_better=False if evaluates else None,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=hardware.on_gpu,
        accelerator_config={"non_blocking": hardware.on_gpu},
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )
    if arguments.world_size == 1 and hardware.on_gpu:
        arguments._n_gpu = 1  # several GPUs take a launcher; without one the Trainer would split every batch
    return arguments
