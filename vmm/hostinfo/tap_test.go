package hostinfo

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTAPSaysWhatToDo(t *testing.T) {
	for err, want := range map[error]struct {
		usable bool
		todo   string
	}{
		nil:         {true, ""},
		unix.ENOENT: {false, "modprobe tun"},
		unix.ENODEV: {false, "modprobe tun"},
		unix.EACCES: {false, "access to /dev/net/tun"},
		unix.EMFILE: {false, ""},
	} {
		got := tapOf(err)
		if got.Usable != want.usable || !strings.Contains(got.Todo, want.todo) || want.usable == (got.Reason != "") {
			t.Errorf("%v: %+v", err, got)
		}
		r := Report{TAP: got}
		if i := r.tapItem(); i.Present != want.usable || i.Required || i.Value == "" {
			t.Errorf("%v: %+v", err, i)
		}
	}
}
