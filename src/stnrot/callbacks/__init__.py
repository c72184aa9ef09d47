"""What is shown, kept and guarded while a task runs; nothing here is computed again."""
