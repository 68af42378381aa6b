"""The reduced-scale study: many short trainings from several seeds, and what comes of them."""
