"""What is looked at before a number is believed: a card, a model, a model's company, and a result run again.

    check        a suite card with its sample rows, or a checkpoint: quick
    doctor       what a score depends on beside its text, in one table
    reproduce    a result's run once more, every score compared

What this package does not know: the command line.
"""
