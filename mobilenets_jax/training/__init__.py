"""Training: state, losses, schedules, optimizers, averages, the step, its parallel form, and the one loop."""
