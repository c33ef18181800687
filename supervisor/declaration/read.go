package declaration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
)

// MaxFile is the size of a file of declarations at most, in bytes.
const MaxFile = 1 << 20

// ReadFile reads a file that has one service.
func ReadFile(file string) (Service, error) {
	src, err := Open(file)
	if err != nil {
		return Service{}, err
	}
	s, err := Parse(src)
	if err != nil {
		return s, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// Open reads a file of at most MaxFile bytes.
func Open(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err == nil && len(src) > MaxFile {
		err = fmt.Errorf("%s has more than %d bytes: a declaration is shorter", file, MaxFile)
	}
	return src, err
}

// Parse reads one service. The error shows the lines that are wrong.
func Parse(src []byte) (s Service, err error) {
	if err := Decode(src, &s); err != nil {
		return s, err
	}
	err = s.Check()
	if p := s.CheckWays(); err == nil && p != nil {
		err = p
	}
	return s, Explain(src, "", err)
}

// Decode reads a document into v and refuses what v has no place for. The error
// shows the line that is wrong.
func Decode(src []byte, v any) error {
	if err := yaml.UnmarshalWithOptions(src, v, yaml.Strict()); err != nil {
		return errors.New(strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	return nil
}

// Explain adds to each [*Problem] in err the lines of src that it is about. What
// has the problem is at prefix, as in "services[0].", "" for the whole document.
func Explain(src []byte, prefix string, err error) error {
	if err == nil {
		return nil
	}
	problems := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		problems = joined.Unwrap()
	}
	for i, e := range problems {
		p, ok := errors.AsType[*Problem](e)
		if !ok {
			continue
		}
		problems[i] = &Problem{prefix + p.Path, p.Text + annotated(src, prefix+p.Path)}
	}
	return errors.Join(problems...)
}

// annotated shows the lines around the value at a path, "" where there is none.
func annotated(src []byte, path string) string {
	at, err := yaml.PathString("$." + path)
	if err != nil {
		return ""
	}
	lines, err := at.AnnotateSource(src, false)
	if err != nil {
		return ""
	}
	return "\n" + strings.TrimRight(string(lines), "\n")
}
