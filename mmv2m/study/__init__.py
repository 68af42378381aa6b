"""The study at reduced scale: many short trainings from several seeds, and their results."""
