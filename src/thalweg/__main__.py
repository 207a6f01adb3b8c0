"""`python -m thalweg`, and `torchrun -m thalweg`."""

from thalweg.cli import main

main()
