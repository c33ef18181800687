// Package deb reads Debian binary packages (deb(5)).
package deb

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"warder/boot/expand"
)

const (
	arMagic      = "!<arch>\n"
	arHeaderSize = 60
	maxControl   = 16 << 20 // bytes of the expanded control archive
	maxMembers   = 16
)

// ErrFormat is returned for a file that is no Debian package.
var ErrFormat = errors.New("no Debian package")

// A Package is an opened package.
type Package struct {
	// Control has the fields of the control file (deb-control(5)): "Package",
	// "Version", "Architecture", "Depends" and so on.
	Control map[string]string
	data    member
}

// member is a file of the ar archive around a package.
type member struct {
	name string
	*io.SectionReader
}

// Parse reads the package in the size bytes of r.
func Parse(r io.ReaderAt, size int64) (*Package, error) {
	members, err := readAr(r, size)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 || members[0].name != "debian-binary" {
		return nil, fmt.Errorf("%w: an ar archive without debian-binary", ErrFormat)
	}
	var version [2]byte
	if _, err := members[0].ReadAt(version[:], 0); err != nil || string(version[:]) != "2." {
		return nil, fmt.Errorf("%w: of format 2.x", ErrFormat)
	}
	p := new(Package)
	for _, m := range members[1:] {
		switch {
		case strings.HasPrefix(m.name, "control.tar"):
			if p.Control, err = readControl(m); err != nil {
				return nil, fmt.Errorf("%s: %w", m.name, err)
			}
		case strings.HasPrefix(m.name, "data.tar"):
			p.data = m
		}
	}
	if p.Control == nil || p.data.SectionReader == nil {
		return nil, fmt.Errorf("%w: control or data is missing", ErrFormat)
	}
	return p, nil
}

// Walk calls f for each file of the package in order, with its content and with
// a clean name without leading "/" or "./".
func (p *Package) Walk(f func(h *tar.Header, content io.Reader) error) error {
	if err := p.data.walk(f); err != nil {
		return fmt.Errorf("%s: %w", p.data.name, err)
	}
	return nil
}

// readAr lists the members of an ar archive (ar(5), the common variant).
func readAr(r io.ReaderAt, size int64) (members []member, err error) {
	var magic [len(arMagic)]byte
	if _, err := r.ReadAt(magic[:], 0); err != nil && err != io.EOF {
		return nil, err
	}
	if string(magic[:]) != arMagic {
		return nil, ErrFormat
	}
	for off := int64(len(arMagic)); off < size; {
		var h [arHeaderSize]byte
		if _, err := r.ReadAt(h[:], off); err != nil {
			return nil, fmt.Errorf("%w: cut short at %d bytes: %w", ErrFormat, size, err)
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(h[48:58])), 10, 62)
		if err != nil || string(h[58:]) != "`\n" {
			return nil, fmt.Errorf("%w: bad ar header at %d", ErrFormat, off)
		}
		off += arHeaderSize
		if int64(n) > size-off {
			return nil, fmt.Errorf("%w: cut short at %d bytes", ErrFormat, size)
		}
		name := strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
		members = append(members, member{name, io.NewSectionReader(r, off, int64(n))})
		if len(members) > maxMembers {
			return nil, fmt.Errorf("%w: more than %d members", ErrFormat, maxMembers)
		}
		off += int64(n + n&1)
	}
	return members, nil
}

// walk reads the member as a tar archive, which may be compressed.
func (m member) walk(f func(h *tar.Header, content io.Reader) error) error {
	var r io.Reader = bufio.NewReaderSize(io.NewSectionReader(m, 0, m.Size()), 64<<10)
	if path.Ext(m.name) != ".tar" {
		head := make([]byte, 16)
		n, _ := m.ReadAt(head, 0)
		z, err := expand.NewReader(expand.Detect(head[:n]), r)
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		h.Name = strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if err := f(h, t); err != nil {
			return err
		}
	}
}

func readControl(m member) (fields map[string]string, err error) {
	err = m.walk(func(h *tar.Header, r io.Reader) error {
		if h.Name != "control" || h.Size > maxControl {
			return nil
		}
		text, err := io.ReadAll(io.LimitReader(r, maxControl))
		fields = ParseControl(text)
		return err
	})
	if err == nil && fields == nil {
		err = fmt.Errorf("%w: no control file", ErrFormat)
	}
	return fields, err
}

// ParseControl reads the first paragraph of text (deb822(5)). Lines that go on
// keep their line breaks.
func ParseControl(text []byte) map[string]string {
	fields := make(map[string]string)
	var last string
	for line := range bytes.Lines(text) {
		s := strings.TrimRight(string(line), " \t\r\n")
		switch {
		case s == "":
			if len(fields) > 0 {
				return fields
			}
		case s[0] == ' ' || s[0] == '\t':
			if last != "" {
				fields[last] += "\n" + s
			}
		default:
			name, value, ok := strings.Cut(s, ":")
			if ok {
				last = name
				fields[name] = strings.TrimSpace(value)
			}
		}
	}
	return fields
}
