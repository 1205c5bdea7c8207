"""What can be wrong, by id: the stage it belongs to, in plain words, and the way out. docs/health.md lists them."""

from __future__ import annotations

from dataclasses import dataclass

STAGES = (
    "data", "storage", "loader", "search", "forward", "loss", "backward", "optimizer", "buffers", "schedule",
    "export", "engine", "hardware",
)  # fmt: skip


@dataclass(frozen=True)
class Cause:
    """One kind of fault. stage "": that of the phase in which it was born."""

    stage: str
    words: str
    fix: str


CAUSES = {
    # data
    "batch-not-finite": Cause(
        "data",
        "the batch holds NaN or an infinity before the step touches it",
        "Leave these rows out and check rows where they are written.",
    ),
    "batch-value-out-of-range": Cause(
        "data",
        "the batch holds a number many times larger than any before it",
        "Leave these rows out, or scale the field as the others are scaled.",
    ),
    "target-not-a-distribution": Cause(
        "data", "a policy target is negative or does not sum to 1", "Leave these rows out; mend what wrote them."
    ),
    "target-on-illegal": Cause(
        "data", "a policy target has mass on an illegal action", "Leave these rows out; mend what wrote them."
    ),
    "empty-mask": Cause(
        "data", "a position without a legal action", "Leave these rows out: a finished game has no policy."
    ),
    "value-out-of-range": Cause(
        "data", "a value target outside [-1, +1]", "Leave these rows out; mend what wrote them."
    ),
    "plane-out-of-range": Cause(
        "data", "an input plane outside [-1, +1]: it has lost its scale", "Leave these rows out; mend the encoding."
    ),
    # the recorder itself
    "not-made-again": Cause(
        "",
        "a number went bad, and the state from before it could not be had again",
        "Run the loop again with FlightRecorder(..., interval=1), which copies the state before every step.",
    ),
    # storage and loader
    "checksum": Cause(
        "storage", "a file is not the one that was written", "It is put aside; the games can be played again."
    ),
    "unreadable": Cause("storage", "a file cannot be read", "It is put aside; the games can be played again."),
    "batch-changed-under-the-step": Cause(
        "loader",
        "the batch was overwritten from outside while the step ran",
        "Give the step a batch of its own: copy it, or wait for the step before the loader writes again.",
    ),
    # search
    "temperature-overflow": Cause(
        "search",
        "visits to the power 1/temperature overflow",
        "Normalize in log space: exp(log(visits)/T - max).",
    ),
    "no-legal-mass": Cause(
        "search",
        "all prior mass lies on illegal actions",
        "Take the softmax under the mask; look at what the network is given.",
    ),
    "network-output-not-finite": Cause(
        "engine", "the network answered with NaN or an infinity", "Go back to the last good model."
    ),
    "gate-refused": Cause(
        "export", "a model was refused before anyone saw it", "Self-play goes on with the last good model."
    ),
    # operations: the stage is the phase
    "log-of-zero": Cause("", "the logarithm of 0", "Take log_softmax of the logits, or clamp the argument from below."),
    "log-of-negative": Cause("", "the logarithm of a negative number", "Clamp the argument from below."),
    "division-by-zero": Cause("", "a division by 0", "Add a small number to the divisor, or divide where it is not 0."),
    "zero-over-zero": Cause("", "0 divided by 0", "Divide only where the divisor is not 0."),
    "root-of-negative": Cause("", "the square root of a negative number", "Clamp the argument at 0 from below."),
    "exp-overflow": Cause("", "an exponential beyond the largest number", "Subtract the largest exponent first."),
    "domain-error": Cause("", "an argument outside the function's domain", "Clamp the argument to the domain."),
    "inf-times-zero": Cause("", "an infinity multiplied by 0", "Select with where instead of multiplying by 0."),
    "inf-minus-inf": Cause("", "an infinity subtracted from itself", "Keep infinities out of sums."),
    "softmax-of-nothing": Cause(
        "", "a softmax over a row with nothing but -inf", "Leave out rows in which everything is masked."
    ),
    "masked-value-used": Cause(
        "", "a masked -inf reached the loss", "Choose masked entries away before they are summed."
    ),
    "statistics-of-too-few": Cause("", "a mean or a variance of too few numbers", "Ask for more rows."),
    "no-alignment": Cause(
        "",
        "a CTC loss without an alignment: a target is longer than its input allows",
        "Leave out targets longer than their input (equal neighbors need a blank between them), or set zero_infinity.",
    ),
    "variance-overflow": Cause(
        "",
        "the variance of these numbers is beyond the largest number",
        "Scale what this layer is given: its numbers are so large that their squares overflow.",
    ),
    "overflow": Cause("", "a result beyond the largest number", "Find what makes its operands so large."),
    "half-overflow": Cause(
        "", "a result beyond the range of float16 (65504)", "Run this layer in bfloat16 or float32."
    ),
    "constant-not-finite": Cause("", "a constant that is NaN or infinite", "Look at where the constant comes from."),
    "gradient-at-singularity": Cause(
        "",
        "a derivative that is infinite at this argument, times 0",
        "Keep the argument away from the singular point before the function, not after it.",
    ),
    "uninitialised-memory": Cause("", "memory that was never written", "Write the tensor before it is read."),
    "not-a-number": Cause("", "a NaN whose cause az could not classify", "Look at the operands."),
    # optimizer, schedule, buffers
    "second-moment-overflow": Cause(
        "optimizer", "the optimizer's second moment overflowed", "Clip the gradient before the step."
    ),
    "second-moment-vanished": Cause(
        "optimizer",
        "the optimizer divided by a second moment that had decayed to 0",
        "Raise eps, clip the gradient, or warm the moments up again.",
    ),
    "update-overflow": Cause("optimizer", "an update beyond the largest number", "Clip the gradient before the step."),
    "update-too-large": Cause(
        "optimizer", "an update many times larger than those before it", "Clip the gradient before the step."
    ),
    "learning-rate-spike": Cause(
        "schedule", "the learning rate of one step was many times that of its neighbors", "Mend the schedule."
    ),
    "python-value-spike": Cause(
        "schedule",
        "a Python number that the step reads was many times what it usually is",
        "Mend what sets this number.",
    ),
    "diverged": Cause(
        "schedule",
        "the weights grew from step to step until a number overflowed",
        "Lower the learning rate, warm it up, or clip the gradient.",
    ),
    "learning-rate-not-finite": Cause("schedule", "a learning rate that is NaN or infinite", "Mend the schedule."),
    "variance-of-one-value": Cause(
        "buffers",
        "batch norm took the variance of a single value a channel: the divisor n - 1 is 0",
        "Drop a last batch of one row.",
    ),
    "running-average-not-finite": Cause(
        "buffers", "a running average absorbed a non-finite value", "Put the averages back with the weights."
    ),
    # what cannot be run again as it was
    "not-explained": Cause(
        "",
        "detected, not explained: the diagnosis itself failed",
        "The note says what went wrong in the diagnosis; anomaly mode (torch.autograd.set_detect_anomaly) may name the "
        "line.",
    ),
    "not-run-again": Cause(
        "",
        "detected and undone; nothing can run these lines again, so the operation is not known",
        "Put the lines into a function and hand it to recorder.run, which tells more.",
    ),
    "not-repeatable": Cause(
        "",
        "run again from the same state, the step ended otherwise: it reads something that the recorder does not keep",
        "Hand the step what it reads as its batch, or name it in extra_state.",
    ),
    "compiled-code-only": Cause(
        "",
        "only the compiled code makes it: without compilation the same step stays finite",
        "Leave this part uncompiled (torch.compiler.disable), and report it to PyTorch with the graph.",
    ),
    "from-another-rank": Cause(
        "",
        "without the gradients of the other ranks the step of this rank stays finite",
        "Look at the incident of the other ranks.",
    ),
    # the state from outside
    "changed-outside-the-step": Cause(
        "hardware",
        "the state was finite after the last step and is not at the beginning of this one",
        "Look at what writes weights, buffers or the optimizer between steps.",
    ),
    "state-not-finite": Cause(
        "optimizer", "the state was not finite before the first step", "Load a checkpoint that is."
    ),
    "not-reproducible": Cause(
        "hardware",
        "the same step on the same numbers ended well: nothing in it explains the fault",
        "Run it again; if it comes back, test memory and processor, and look for other writers.",
    ),
}
