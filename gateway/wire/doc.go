// Package wire holds what two gateways say to each other inside their links.
package wire
