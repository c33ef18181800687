package kernelpkg

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Built is a tuned kernel as its build left it. All that guests need is part of
// it: it has no modules.
type Built struct {
	Arch    string // "amd64" or "arm64"
	Release string // uname -r
	Version string // of the Debian package with the source
	Recipe  string // names the configuration: one that changed is another
	Kernel  string // path of the bzImage or Image
	Config  string // path of the configuration
}

// InstallBuilt installs a tuned kernel.
func InstallBuilt(b Built) (*Package, error) {
	if err := checkArch(b.Arch); err != nil {
		return nil, err
	}
	p := &Package{
		Flavour: Tuned, Arch: b.Arch, Release: b.Release, Version: b.Version, Recipe: b.Recipe,
		VmlinuzPath: "vmlinuz", ConfigPath: "config", Installed: time.Now().UTC(),
	}
	dir, err := root()
	if err != nil {
		return nil, err
	}
	if p.Digest, err = fileDigest(b.Kernel); err != nil {
		return nil, err
	}
	final := filepath.Join(dir, p.Arch, p.Digest)
	err = place(final, func(_, ready string) error {
		if err := copyFile(filepath.Join(ready, p.VmlinuzPath), b.Kernel); err != nil {
			return err
		}
		if err := copyFile(filepath.Join(ready, p.ConfigPath), b.Config); err != nil {
			return err
		}
		if err := p.unwrap(ready); err != nil {
			return err
		}
		return p.save(ready)
	})
	if err != nil {
		return nil, err
	}
	return load(final)
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func copyFile(to, from string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}
