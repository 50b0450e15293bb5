BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $base = Get-Base 'llama-bf16'
    $adapter = Copy-Folder (Get-Adapter 'lora-all-linear') 'zeros'
    $config = Read-Json "$adapter/adapter_config.json"
    $config | Add-Member unheard_of $true
    $config | ConvertTo-Json -Depth 9 | Set-Content "$adapter/adapter_config.json"
    $isWarning = { $_ -is [Management.Automation.WarningRecord] }
}

Describe 'A warning' {
    It 'has an id, and is shown once by a loop' {
        $shown = @(1..3 | ForEach-Object { Merge-LoraModel $base $adapter -Weight $_ } 3>&1 | Where-Object $isWarning)
        $shown | Should -HaveCount 1
        $shown[0].Message | Should -BeLike '*unheard_of*(UnknownOption)'
    }

    It 'is given to everyone who collects it' {
        foreach ($i in 1..2) {
            $null = Merge-LoraModel $base $adapter -WarningVariable warnings 3> $null
            $warnings | Should -HaveCount 1
        }
    }

    It 'stops a command that must not warn, every time, and nothing is saved' {
        $out = Join-Path $TestDrive 'stopped'
        foreach ($i in 1..2) {
            { Merge-LoraModel $base $adapter -WarningAction Stop | Save-MergedModel $out } | Should -Throw '*unheard_of*'
        }
        & {
            $WarningPreference = 'Stop'
            foreach ($i in 1..2) { { Merge-LoraModel $base $adapter | Save-MergedModel $out } | Should -Throw '*unheard_of*' }
        }
        $out | Should -Not -Exist
    }

    It 'tells of a shard size that lacks its unit' {
        $tensors = Merge-LoraModel $base
        $null = $tensors | Save-MergedModel "$TestDrive/bytes" -MaxShardSize 5 -WhatIf -WarningVariable warnings 3> $null
        "$warnings" | Should -BeLike '*means 5 bytes*Did you mean 5GB? (SmallShards)'
        $null = $tensors | Save-MergedModel "$TestDrive/bytes" -MaxShardSize 5GB -WhatIf -WarningVariable warnings
        $warnings | Should -BeNullOrEmpty
    }
}

Describe 'An error' {
    It 'leaves $? false, and obeys -ErrorAction where the command goes on' {
        Get-ModelTensor /nowhere -ErrorAction Ignore
        $? | Should -BeFalse
        $count = $global:Error.Count
        try { Merge-LoraModel /nowhere $adapter } catch { $ended = $_ }
        $ended.FullyQualifiedErrorId | Should -BeLike 'PathNotFound,*'
        $global:Error.Count | Should -BeGreaterThan $count
    }

    It 'that ends a command is hidden by -ErrorAction, and ends it all the same' {
        $failing = { Merge-LoraModel /nowhere $adapter @args; $? }, { Merge-LoraModel $base $adapter $base @args; $? },
            { Merge-LoraModel $base $adapter | Save-MergedModel $base @args; $? }, { Test-MergedModel @args; $? },
            { Get-MergeMemoryPlan $base /nowhere @args; $? }, { Export-MergeReport @args; $? }, { Complete-MergedModel /nowhere @args; $? }
        foreach ($action in 'SilentlyContinue', 'Ignore') {
            foreach ($command in $failing) {
                & $command -ErrorAction $action 2>&1 3> $null | Should -Be $false -Because "$command"
            }
        }
        Merge-LoraModel /nowhere $adapter -ErrorAction SilentlyContinue -ErrorVariable failed
        $failed.FullyQualifiedErrorId | Should -BeLike 'PathNotFound,*'
        foreach ($command in $failing) { { & $command -ErrorAction Stop 3> $null } | Should -Throw -Because "$command" }
    }

    It 'that ends a command is caught where it is' {
        $ErrorActionPreference = 'Continue'
        try { $null = Merge-LoraModel /nowhere $adapter | Save-MergedModel "$TestDrive/none" } catch { $ended = $_ }
        $ended.FullyQualifiedErrorId | Should -BeLike 'PathNotFound,*MergeLoraModelCommand'
    }
}
