package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"warder/lab/bench/farend"
	"warder/lab/bench/initrd"
)

// beside is what this program does in a guest that something else has set up: serve, or
// measure DIR NAME=ADDRESS..., which leaves a file of values in a directory.
func beside(args []string) error {
	if len(args) > 0 && args[0] == "serve" {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		farend.Serve(l, initrd.StreamSize)
		return nil
	}
	if len(args) < 3 || args[0] != "measure" {
		return fmt.Errorf("%q: give serve, or measure, a directory and names with addresses", args)
	}
	var values strings.Builder
	for _, a := range args[2:] {
		name, address, _ := strings.Cut(a, "=")
		what := "between VMs"
		if name == "gateway" {
			name, what = "warder", "outside"
		}
		err := measureAddress(address, func(quantity string, value float64) {
			fmt.Fprintf(&values, "%s: %s/%s %g\n", name, what, quantity, value)
		})
		if err != nil {
			fmt.Fprintf(&values, "%s: error %s: %v\n", name, what, err)
		}
	}
	file := filepath.Join(args[1], "values")
	if err := os.WriteFile(file+".part", []byte(values.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".part", file)
}

// measureAddress measures a connection to a program that serves.
func measureAddress(address string, r report) error {
	var c net.Conn
	err := eventually(func() (err error) {
		c, err = net.DialTimeout("tcp", fmt.Sprintf("%s:%d", address, port), time.Second)
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	return measurePeer(r, c, total)
}
