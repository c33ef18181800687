package boot

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// CacheDir is where warder keeps what can be had again: $WARDER_CACHE, or
// the directory warder in the user's cache directory ($XDG_CACHE_HOME).
func CacheDir() (string, error) {
	if dir := os.Getenv("WARDER_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory, set WARDER_CACHE: %w", err)
	}
	return filepath.Join(dir, "warder"), nil
}

// A cache holds expanded kernels, each in a file that is named after the SHA-256
// of the file it came from and that ends with a CRC of its content: one that
// does not fit is expanded again, whatever happened to it.
type cache struct{ dir string }

const crcSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// store gives the store for the file that is size bytes of r.
func (c cache) store(r io.ReaderAt, size int64) store {
	if c.dir == "" {
		return inMemory
	}
	return func(fill func(io.Writer) error) (expanded, error) {
		sum := sha256.New()
		if _, err := io.Copy(sum, io.NewSectionReader(r, 0, size)); err != nil {
			return nil, err
		}
		path := filepath.Join(c.dir, hex.EncodeToString(sum.Sum(nil)))
		if x, err := openCached(path); err == nil {
			return x, nil
		}
		x, err := fillCached(path, fill)
		if errors.Is(err, errCache) {
			return inMemory(fill) // a cache that cannot be written only costs time
		}
		return x, err
	}
}

var errCache = errors.New("cache")

// cached is a file of the cache.
type cached struct {
	*io.SectionReader
	f *os.File
}

func (c cached) Close() error { return c.f.Close() }

func openCached(path string) (expanded, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	x, err := verify(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return x, nil
}

func verify(f *os.File) (expanded, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	body := io.NewSectionReader(f, 0, st.Size()-crcSize)
	crc := crc32.New(castagnoli)
	if _, err := io.Copy(crc, body); err != nil {
		return nil, err
	}
	var want [crcSize]byte
	if _, err := f.ReadAt(want[:], body.Size()); err != nil {
		return nil, err
	}
	if crc.Sum32() != binary.LittleEndian.Uint32(want[:]) {
		return nil, fmt.Errorf("%s: %w: damaged", f.Name(), fs.ErrInvalid)
	}
	return cached{body, f}, nil
}

// fillCached writes a new file of the cache, which appears under its name when
// it is whole.
func fillCached(path string, fill func(io.Writer) error) (_ expanded, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("%w: %w", errCache, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "tmp-*")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCache, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	crc := crc32.New(castagnoli)
	w := &cacheWriter{w: bufio.NewWriterSize(f, 1<<20)}
	if err := fill(io.MultiWriter(w, crc)); err != nil {
		if w.err != nil {
			return nil, fmt.Errorf("%w: %w", errCache, w.err)
		}
		return nil, err
	}
	if _, err = w.Write(binary.LittleEndian.AppendUint32(nil, crc.Sum32())); err == nil {
		err = errors.Join(w.w.Flush(), f.Chmod(0o644))
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCache, err)
	}
	return verify(f)
}

// cacheWriter remembers that writing failed, rather than expanding.
type cacheWriter struct {
	w   *bufio.Writer
	err error
}

func (c *cacheWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err != nil {
		c.err = err
	}
	return n, err
}
