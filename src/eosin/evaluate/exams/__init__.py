"""Listed exams: a card, a reader, a prompt and a scorer each, frozen and digested; one file an exam or family."""
