"""`python -m luigi_tasks.cli`: what run.sh runs."""

from luigi_tasks.cli import main

main()
