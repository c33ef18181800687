package boardimage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

// writeInitramfs writes the machine's system as an initial RAM disk: the same
// input gives the same bytes.
func (c *Config) writeInitramfs(to string) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := zstd.NewWriter(f, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	a := archive{w: cpio.Newc.Writer(z), made: map[string]bool{".": true}}
	if err := c.fill(&a); err != nil {
		return err
	}
	if err := cpio.WriteTrailer(a.w); err != nil {
		return err
	}
	return z.Close()
}

func (c *Config) fill(a *archive) error {
	settings := Settings{Hostname: c.Hostname, Built: c.Built.UTC()}
	if c.Layout != Plain {
		settings.Volume = Volume
	}
	for i, m := range c.Host.Modules {
		p := fmt.Sprintf("%s/%03d-%s.ko", moduleDir, i, m.Name)
		settings.Modules = append(settings.Modules, p)
		if err := a.file(p, m.Path, 0o644); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(settings, "", "\t")
	if err != nil {
		return err
	}
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "root"} {
		if err := a.directory(dir); err != nil {
			return err
		}
	}
	return errors.Join(
		a.file("/init", c.Warder, 0o755),
		a.link("/bin/warder", "/init"),
		a.bytes(SettingsPath, text),
		a.bytes(ConfigPath, c.HostConfig),
		c.addGuest(a),
	)
}

// addGuest adds the guests' kernel where warder looks for it. It is there once:
// the file as packaged is for other boot loaders.
func (c *Config) addGuest(a *archive) error {
	dir := path.Join(CacheDir, "kernels", c.Arch, path.Base(filepath.ToSlash(c.Guest.Dir)))
	return filepath.WalkDir(c.Guest.Dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(c.Guest.Dir, file)
		if err != nil {
			return err
		}
		to := path.Join(dir, filepath.ToSlash(rel))
		if file == c.Guest.VmlinuzPath {
			return a.link(to, filepath.Base(c.Guest.KernelPath))
		}
		return a.file(to, file, 0o644)
	})
}

// An archive is a cpio archive that makes the directories above what is added.
type archive struct {
	w    cpio.RecordWriter
	ino  uint64
	made map[string]bool
}

func (a *archive) add(name string, r cpio.Record) error {
	name = path.Clean("/" + name)[1:]
	if err := a.directory(path.Dir(name)); err != nil {
		return err
	}
	a.ino++
	r.Name, r.Ino, r.NLink = name, a.ino, 1
	if err := a.w.WriteRecord(r); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (a *archive) directory(name string) error {
	if a.made[name] {
		return nil
	}
	a.made[name] = true
	return a.add(name, cpio.Directory(name, 0o755))
}

func (a *archive) link(name, target string) error { return a.add(name, cpio.Symlink(name, target)) }

func (a *archive) bytes(name string, data []byte) error {
	return a.add(name, record(bytes.NewReader(data), uint64(len(data)), 0o644))
}

func (a *archive) file(name, from string, mode uint64) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return a.add(name, record(f, uint64(st.Size()), mode))
}

func record(r io.ReaderAt, size, mode uint64) cpio.Record {
	return cpio.Record{Info: cpio.Info{Mode: cpio.S_IFREG | mode, FileSize: size}, ReaderAt: r}
}
