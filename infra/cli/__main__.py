from infra.cli.main import main

if __name__ == "__main__":  # a process that another one starts imports this, and must not run it
    main()
