package process

import (
	"os"
	"strings"
	"syscall"

	"warder/guestinit/proto"
)

// defaultPath is where programs are looked up when the command's environment
// has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// spec is a command, resolved.
type spec struct {
	path       string
	dir        string
	env        []string
	credential *syscall.Credential
}

// prepare resolves the user, environment, directory and program of a command.
// Its error is a *proto.Error.
func prepare(c proto.Command) (*spec, error) {
	if len(c.Args) == 0 {
		return nil, proto.Errorf(proto.CodeBadRequest, "no command given")
	}
	for _, s := range append(append([]string{c.Dir}, c.Args...), c.Env...) {
		if strings.ContainsRune(s, 0) {
			return nil, proto.Errorf(proto.CodeBadRequest, "a zero byte in %q", s)
		}
	}
	u, err := lookupUser("/etc/passwd", "/etc/group", c.User)
	if err != nil {
		return nil, proto.Errorf(proto.CodeNotExecutable, "user %q: %v", c.User, err)
	}
	s := &spec{
		env: []string{"PATH=" + defaultPath, "HOME=" + u.home, "USER=" + u.name, "SHELL=/bin/sh"},
		dir: c.Dir,
	}
	if c.TTY {
		s.env = append(s.env, "TERM=xterm")
	}
	s.env = lastWins(append(s.env, c.Env...))
	if s.dir == "" {
		if s.dir = u.home; !isDir(s.dir) {
			s.dir = "/" // a user land without homes
		}
	}
	if !isDir(s.dir) {
		return nil, proto.Errorf(proto.CodeNotExecutable, "working directory %q: no such directory in the guest", s.dir)
	}
	path, perr := lookPath(c.Args[0], s.dir, s.env)
	if perr != nil {
		return nil, perr
	}
	s.path = path
	if os.Getuid() == 0 {
		s.credential = &syscall.Credential{Uid: u.uid, Gid: u.gid, Groups: u.groups}
	}
	return s, nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// lastWins keeps the last entry of each key, in place of the first.
func lastWins(env []string) []string {
	at := make(map[string]int)
	out := env[:0:0]
	for _, e := range env {
		k, _, _ := strings.Cut(e, "=")
		if i, ok := at[k]; ok {
			out[i] = e
			continue
		}
		at[k] = len(out)
		out = append(out, e)
	}
	return out
}
