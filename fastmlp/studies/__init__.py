"""Five reports' studies, done again with several seeds: what they state, what is trained for them, what is found."""
