"""Somebody's own activation: its bytes stand in a frozen run id, so this file never changes."""


def half(z):
    return 0.5 * z
