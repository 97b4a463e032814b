"""How long it will take: named mechanisms, each in a file of its own, every parameter a physical one.

``parameters`` says what is known of a card and from where; ``kernels`` finds an operation's mechanism; ``sequence`` runs
kernels one behind another with their launches. No time is looked up: a shape that was never measured is as good as any.
"""
