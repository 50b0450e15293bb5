BeforeAll {
    $root = Convert-Path (Join-Path $PSScriptRoot .. ..)
}

Describe 'The pages of docs/cmdlets' {
    It 'are what ./build.ps1 Docs writes' {
        $built = Get-ChildItem "$root/artifacts/docs" -Filter *.md
        (Get-ChildItem "$root/docs/cmdlets").Name | Should -Be $built.Name
        foreach ($page in $built) {
            Get-Content "$root/docs/cmdlets/$($page.Name)" -Raw | Should -BeExactly (Get-Content $page -Raw) -Because 'run ./build.ps1 Docs'
        }
    }
}

Describe 'Links of Markdown pages' {
    It 'lead to files' {
        $pages = @(Get-Item "$root/*.md") + @(Get-ChildItem "$root/docs" -Recurse -Filter *.md)
        $broken = foreach ($page in $pages) {
            foreach ($link in [regex]::Matches((Get-Content $page -Raw), '\]\((?!http)([^)#]+)').ForEach({ $_.Groups[1].Value })) {
                if (-not (Test-Path (Join-Path $page.DirectoryName $link))) { "$($page.Name): $link" }
            }
        }
        $broken | Should -BeNullOrEmpty
    }
}

Describe 'Lines' {
    It 'have at most 140 characters' {
        $folders = Get-ChildItem $root -Directory | Where-Object Name -NotIn artifacts, bin, en-US, out
        $extensions = '.cs', '.ps1', '.psd1', '.ps1xml', '.md', '.txt', '.csproj', '.props', '.targets', '.yml'
        $files = @(Get-ChildItem $root -File) + @(Get-ChildItem $folders -Recurse -File) |
            Where-Object { $_.Extension -in $extensions -and $_.FullName -notmatch '[\\/](Fixtures|obj)[\\/]' }
        $long = $files | Select-String '^.{141}' | ForEach-Object { "$([IO.Path]::GetRelativePath($root, $_.Path)):$($_.LineNumber)" }
        $long | Should -BeNullOrEmpty
    }
}
