"""Hand-written reviews: the same in every run, so that one sees the model change."""

# what makes it hard, the label that a reader would give, the text
SENTENCES = (
    ("plain", 1, "A wonderful film with great actors. I loved every minute of it."),
    ("plain", 0, "A terrible film: boring, badly acted and a complete waste of time."),
    ("negation", 1, "Not bad at all. I was not bored for a second and I do not regret it."),
    ("negation", 0, "This is not a good film, and nothing about it is funny or clever."),
    ("irony", 0, "Oh great, another masterpiece about nothing. I loved looking at my watch."),
    ("irony", 0, "The perfect film, if what you want is a good night's sleep."),
    ("mixed", 1, "The plot is weak and the start is slow, but the ending is superb. See it."),
    ("mixed", 0, "Excellent actors and beautiful music, but the story is awful and dull."),
)
