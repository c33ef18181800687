package main

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		args []string
		sig  unix.Signal
		pids []int
	}{
		{[]string{"12"}, unix.SIGTERM, []int{12}},
		{[]string{"-9", "12", "13"}, unix.SIGKILL, []int{12, 13}},
		{[]string{"-TERM", "1"}, unix.SIGTERM, []int{1}},
		{[]string{"-sigusr1", "1"}, unix.SIGUSR1, []int{1}},
		{[]string{"-s", "HUP", "1"}, unix.SIGHUP, []int{1}},
		{[]string{"-s", "HUP", "--", "-1"}, unix.SIGHUP, []int{-1}},
		{[]string{"-0", "7"}, 0, []int{7}},
		{[]string{"--", "-5"}, unix.SIGTERM, []int{-5}},
		{[]string{"-INT", "-5"}, unix.SIGINT, []int{-5}},
	} {
		sig, pids, err := parse(tt.args)
		if err != nil || sig != tt.sig || !slices.Equal(pids, tt.pids) {
			t.Errorf("%q: %v to %v, error %v; want %v to %v", tt.args, sig, pids, err, tt.sig, tt.pids)
		}
	}
	for _, args := range [][]string{nil, {"-9"}, {"x"}, {"-NOSUCH", "1"}, {"-s", "99", "1"}, {"1", "two"}, {"--"}} {
		if sig, pids, err := parse(args); err == nil {
			t.Errorf("%q: %v to %v", args, sig, pids)
		}
	}
}
