package feed

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sigstore/sigstore/pkg/signature"
)

// The roles of a repository, each with a key of its own. Whoever has the root
// key can replace the others, so it is best kept apart.
var roles = []string{"root", "targets", "snapshot", "timestamp"}

// keys are the private keys of a publisher.
type keys map[string]ed25519.PrivateKey

// loadKeys reads the keys in a directory, ROLE.pem each. It makes those that are
// not there: for a new repository all, later not the root's, without which it
// makes none.
func loadKeys(dir string, new bool) (keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	k := make(keys)
	for _, role := range roles {
		name := filepath.Join(dir, role+".pem")
		text, err := os.ReadFile(name)
		switch {
		case errors.Is(err, os.ErrNotExist) && role == "root" && !new:
			continue
		case errors.Is(err, os.ErrNotExist) && !new && k["root"] == nil:
			return nil, fmt.Errorf("%s is not there; with root.pem beside it another would be made", name)
		case errors.Is(err, os.ErrNotExist):
			if k[role], err = makeKey(name); err != nil {
				return nil, err
			}
			continue
		case err != nil:
			return nil, err
		}
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, fmt.Errorf("%s is not a key in PEM form", name)
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		private, ok := key.(ed25519.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("%s is not an Ed25519 key", name)
		}
		k[role] = private
	}
	return k, nil
}

func makeKey(name string) (ed25519.PrivateKey, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return private, errors.Join(err, f.Close())
}

func (k keys) signer(role string) (signature.Signer, error) {
	return signature.LoadED25519Signer(k[role])
}
