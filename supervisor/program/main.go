// Command program is what runs in a supervisor's VM: it dials the host, shows who it
// is, and decides about services until the host hangs up.
//
// It is all that there is in the VM beside PID 1, which starts it for the host. It has
// no flags; what goes wrong goes to standard error, which is the host's log.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"

	"github.com/mdlayher/vsock"

	"warder/supervisor/decision"
	"warder/supervisor/link"
)

func main() {
	if err := run(context.Background()); err != nil { // this program ends with its machine
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	file, err := os.ReadFile(link.CredentialFile)
	if err != nil {
		return err
	}
	// It is good for one connection, and this is the one.
	if err := os.Remove(link.CredentialFile); err != nil {
		return err
	}
	credential, err := link.DecodeCredential(file)
	if err != nil {
		return fmt.Errorf("%s: %w", link.CredentialFile, err)
	}
	conn, err := vsock.Dial(vsock.Host, link.Port, nil)
	if err != nil {
		return fmt.Errorf("the host's port for supervisors: %w", err)
	}
	t := tls.Client(conn, credential.Config())
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("the host: %w", err)
	}
	return decision.Serve(ctx, t)
}
