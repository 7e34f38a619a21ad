"""What a policy writes: completions, rollouts from steps, the labels these give, and a policy trained on them.

What this package does not know: rewards, the command line.
"""
