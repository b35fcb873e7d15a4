package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov5"
	"github.com/hashicorp/terraform-plugin-go/tfprotov5/tf5server"
)

// What terraform was started with says what to read.
const (
	// packageVariable is the folder of the npm package.
	packageVariable = "ISTHMUS_GOOGLE_PACKAGE"
	// typesVariable names the resource types to serve, with commas between.
	typesVariable = "ISTHMUS_GOOGLE_TYPES"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "terraform-google:", err)
		os.Exit(1)
	}
}

func run() error {
	s, err := read(os.Getenv(packageVariable), strings.Split(os.Getenv(typesVariable), ","))
	if err != nil {
		return err
	}
	return tf5server.Serve("registry.terraform.io/hashicorp/google", func() tfprotov5.ProviderServer { return s })
}
