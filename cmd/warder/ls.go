package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"warder/supervisor/api"
)

func lsCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the running VMs",
		Long: `List the VMs of all warder processes of this user. PID is the process that hosts
the VM; where two have a VM of one name, NAME@PID tells them apart.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			vms, err := api.List(cmd.Context(), api.Dir())
			out := cmd.OutOrStdout()
			if output == "json" {
				if vms == nil {
					vms = []api.VM{}
				}
				return errors.Join(err, printJSON(out, vms))
			}
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tPID\tCPUS\tMEMORY\tUP\tKERNEL")
			for _, vm := range vms {
				fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", vm.Name, vm.PID, vm.CPUs, humanize.IBytes(vm.Memory),
					time.Since(vm.Started).Round(time.Second), filepath.Base(vm.Kernel))
			}
			return errors.Join(err, w.Flush())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}
