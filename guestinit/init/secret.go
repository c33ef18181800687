package main

import (
	"context"
	"fmt"
	"os"

	"warder/guestinit/secret"
)

// secretName is the name by which this program is the command that asks for a secret:
//
//	secret NAME
//
// It prints the secret as it is. A host that refuses says why; the status is 1 then.
const secretName = "secret"

func secretCommand(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "secret: which one? secret NAME")
		return 2
	}
	value, err := askFor(args[0])
	if err == nil {
		_, err = os.Stdout.Write(value)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "secret:", err)
		return 1
	}
	return 0
}

// askFor asks the host for a secret.
func askFor(name string) ([]byte, error) {
	conn, err := dialHost(context.Background())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return secret.Ask(conn, name)
}
