"""The pages for people: a work list of all studies, each study with its pictures and marks, and what readers say."""
