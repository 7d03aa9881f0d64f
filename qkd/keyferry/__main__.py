from keyferry.cli import entry

if __name__ == "__main__":
    entry()
