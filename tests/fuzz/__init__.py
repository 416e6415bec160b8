"""Every decoder meets arbitrary bytes: in CI with Hypothesis, and for longer with a coverage-guided fuzzer.

pip install atheris && python -m tests.fuzz envelope -max_total_time=600
"""
