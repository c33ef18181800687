package process

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

type user struct {
	name     string
	uid, gid uint32
	home     string
	groups   []uint32
}

// lookupUser resolves "name", "name:group" or numbers for either, in files as
// passwd(5) and group(5) have them. A number needs no entry. Empty is root.
func lookupUser(passwd, group, name string) (user, error) {
	if name == "" {
		name = "0"
	}
	name, groupName, hasGroup := strings.Cut(name, ":")
	u := user{name: name, home: "/"}
	found := false
	err := entries(passwd, 7, func(f []string) bool {
		if f[0] != name && f[2] != name {
			return true
		}
		uid, uerr := parseID(f[2])
		gid, gerr := parseID(f[3])
		if uerr != nil || gerr != nil {
			return true
		}
		u.name, u.uid, u.gid, found = f[0], uid, gid, true
		if f[5] != "" {
			u.home = f[5]
		}
		return false
	})
	if err != nil {
		return user{}, err
	}
	if !found {
		if u.uid, err = parseID(name); err != nil {
			return user{}, errors.New("no such user in the guest's /etc/passwd")
		}
		u.gid = u.uid
	}
	if hasGroup {
		gid, err := lookupGroup(group, groupName)
		if err != nil {
			return user{}, err
		}
		u.gid = gid
		return u, nil
	}
	err = entries(group, 4, func(f []string) bool {
		gid, err := parseID(f[2])
		if err != nil {
			return true
		}
		for m := range strings.SplitSeq(f[3], ",") {
			if m == u.name {
				u.groups = append(u.groups, gid)
			}
		}
		return true
	})
	return u, err
}

func lookupGroup(file, name string) (uint32, error) {
	var gid uint32
	found := false
	err := entries(file, 4, func(f []string) bool {
		if f[0] != name {
			return true
		}
		id, err := parseID(f[2])
		gid, found = id, err == nil
		return !found
	})
	if err != nil || found {
		return gid, err
	}
	if gid, err = parseID(name); err != nil {
		return 0, fmt.Errorf("no group %q in the guest's /etc/group", name)
	}
	return gid, nil
}

// parseID reads a user or group id; 2^32-1 means "unchanged" to the kernel.
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, fmt.Errorf("id %q out of range", s)
	}
	return uint32(n), nil
}

// entries calls f with the fields of each line that has enough of them, until
// f returns false. A missing file has no lines.
func entries(file string, fields int, f func([]string) bool) error {
	r, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer r.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if p := strings.Split(lines.Text(), ":"); len(p) >= fields && !f(p) {
			return nil
		}
	}
	return lines.Err()
}
