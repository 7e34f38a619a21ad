"""Generative judges: what they are asked, and how what they write is read.

What this module does not know: which model judges, and where it runs.
"""
