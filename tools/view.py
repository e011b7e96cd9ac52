"""Look at a scene in the browser, with the model's rendering from where you are."""

from start import start

if __name__ == "__main__":
    start("view")
