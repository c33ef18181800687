package process

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"warder/guestinit/proto"
)

// execError gives a failed exec the code that container tools give it.
func execError(path string, err error) *proto.Error {
	code := proto.CodeNotExecutable
	if errors.Is(err, fs.ErrNotExist) {
		// The path was looked at before: what is missing is its interpreter.
		return proto.Errorf(code, "%s: its interpreter or dynamic loader is missing in the guest", path)
	}
	if errors.Is(err, syscall.ENOEXEC) {
		return proto.Errorf(code, "%s: not a program for this guest (built for another machine?)", path)
	}
	return proto.Errorf(code, "%s: %v", path, err)
}

// lookPath finds a program as execvp does, in the PATH and directory that the
// command will have.
func lookPath(name, dir string, env []string) (string, *proto.Error) {
	if name == "" {
		return "", proto.Errorf(proto.CodeBadRequest, "empty program name")
	}
	if strings.Contains(name, "/") {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		return path, executable(path)
	}
	var denied *proto.Error
	for _, d := range filepath.SplitList(getenv(env, "PATH")) {
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d)
		}
		path := filepath.Join(d, name)
		err := executable(path)
		if err == nil {
			return path, nil
		}
		if err.Code == proto.CodeNotExecutable {
			denied = err
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", proto.Errorf(proto.CodeNotFound, "%s: not found in the guest's PATH", name)
}

func executable(path string) *proto.Error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return proto.Errorf(proto.CodeNotFound, "%s: no such file in the guest", path)
	case err != nil:
		return proto.Errorf(proto.CodeNotExecutable, "%v", err)
	case st.IsDir():
		return proto.Errorf(proto.CodeNotExecutable, "%s: is a directory", path)
	case st.Mode()&0o111 == 0:
		return proto.Errorf(proto.CodeNotExecutable, "%s: permission denied (not executable)", path)
	}
	return nil
}

func getenv(env []string, key string) string {
	for _, e := range slices.Backward(env) {
		if k, v, ok := strings.Cut(e, "="); ok && k == key {
			return v
		}
	}
	return ""
}
