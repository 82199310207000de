"""Run jobs: runners, process pool, progress, log and command line."""

__all__ = ["command_line", "flags", "interrupts", "log", "process_pool", "progress", "runners"]
