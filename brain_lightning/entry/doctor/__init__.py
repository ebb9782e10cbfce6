"""Reading a recipe without running it: what it uses, how it will run, what is refused."""
