package feed

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

func (p *publisher) rootFile(version int64) string {
	return filepath.Join(p.out, "metadata", strconv.FormatInt(version, 10)+".root.json")
}

// exists says whether there is a repository already.
func (p *publisher) exists() bool {
	_, err := os.Stat(p.rootFile(1))
	return err == nil
}

// latestRoot is the root that users get to in the end; nil where there is none.
func (p *publisher) latestRoot() (root *metadata.Metadata[metadata.RootType], err error) {
	for version := int64(1); ; version++ {
		next, err := metadata.Root().FromFile(p.rootFile(version))
		if errors.Is(err, os.ErrNotExist) {
			return root, nil
		}
		if err != nil {
			return nil, err
		}
		root = next
	}
}

// root makes the first root of trust, and another behind it when that is soon
// over or has other keys: users go from one to the next, as each is signed by the
// key of the one before it.
func (p *publisher) root() error {
	old, err := p.latestRoot()
	if err != nil {
		return err
	}
	if old != nil {
		p.expires = old.Signed.Expires
		same, err := p.sameKeys(old)
		if err != nil {
			return err
		}
		soon := p.now.After(p.expires.Add(-rootRenewal))
		switch {
		case same && !soon:
			return nil
		case p.keys["root"] == nil && same && p.now.Before(p.expires):
			return nil // who publishes is told
		case p.keys["root"] == nil:
			return errors.New("the root of trust has to be renewed: publish once with root.pem among the keys")
		}
	}
	root := metadata.Root(p.now.Add(rootTime))
	root.Signed.ConsistentSnapshot = true
	if old != nil {
		root.Signed.Version = old.Signed.Version + 1
	}
	for _, role := range roles {
		key, err := metadata.KeyFromPublicKey(p.keys[role].Public())
		if err != nil {
			return err
		}
		if err := root.Signed.AddKey(key, role); err != nil {
			return err
		}
	}
	p.expires = root.Signed.Expires
	return sign(p, "root", root, filepath.Base(p.rootFile(root.Signed.Version)))
}

// sameKeys says whether a root has the keys that we sign with. Of the root's own
// it must be so.
func (p *publisher) sameKeys(root *metadata.Metadata[metadata.RootType]) (same bool, err error) {
	same = true
	for _, role := range roles {
		if p.keys[role] == nil {
			continue
		}
		key, err := metadata.KeyFromPublicKey(p.keys[role].Public())
		if err != nil {
			return false, err
		}
		id, err := key.ID()
		if err != nil {
			return false, err
		}
		if ids := root.Signed.Roles[role].KeyIDs; len(ids) == 1 && ids[0] == id {
			continue
		}
		if role == "root" {
			return false, errors.New("root.pem is not the key that the repository was made with")
		}
		same = false
	}
	return same, nil
}
