package process

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLookupUser(t *testing.T) {
	dir := t.TempDir()
	passwd, group := filepath.Join(dir, "passwd"), filepath.Join(dir, "group")
	for path, content := range map[string]string{
		passwd: "# comment\nroot:x:0:0:root:/root:/bin/sh\nbad:x:many:0:::\nada:x:1000:1001:Ada:/home/ada:/bin/sh\nnohome:x:7:7:::\n",
		group:  "root:x:0:\nstaff:x:50:ada,root\nwheel:x:10:ada\nshort\nada:x:1001:\n",
	} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]user{
		"":          {name: "root", home: "/root", groups: []uint32{50}},
		"ada":       {"ada", 1000, 1001, "/home/ada", []uint32{50, 10}},
		"1000":      {"ada", 1000, 1001, "/home/ada", []uint32{50, 10}},
		"ada:staff": {name: "ada", uid: 1000, gid: 50, home: "/home/ada"},
		"ada:77":    {name: "ada", uid: 1000, gid: 77, home: "/home/ada"},
		"4242":      {name: "4242", uid: 4242, gid: 4242, home: "/"},
		"4242:0":    {name: "4242", uid: 4242, gid: 0, home: "/"},
		"nohome":    {name: "nohome", uid: 7, gid: 7, home: "/"},
	} {
		got, err := lookupUser(passwd, group, name)
		if err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(user{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", name, diff)
		}
	}
	for _, name := range []string{"eve", "bad", "ada:nobodies", "4294967295", "-1", "ada:-1", "99999999999"} {
		if u, err := lookupUser(passwd, group, name); err == nil {
			t.Errorf("%q is %+v", name, u)
		}
	}
	if u, err := lookupUser(filepath.Join(dir, "none"), filepath.Join(dir, "none"), "0"); err != nil || u.uid != 0 {
		t.Errorf("root without a passwd file: %+v, error %v", u, err)
	}
}

func TestLastWins(t *testing.T) {
	got := lastWins([]string{"A=1", "B=2", "A=3", "C"})
	if diff := cmp.Diff([]string{"A=3", "B=2", "C"}, got); diff != "" {
		t.Error(diff)
	}
}
